/** Finds an adapter and opens a device on it, in browsers and in Node. */
import { UnsupportedError } from "@mamba-ts/backend";
import { type DawnOptions, findGpu } from "./dawn.js";
import type { Adapter, Device } from "./types.js";

/** How an adapter is asked for: the processor's own, "fallback", is what a machine without a graphics chip has. */
export type AdapterPreference = "high-performance" | "low-power" | "fallback";

export interface AdapterOptions {
  /** Which of several adapters: "high-performance" by default. */
  readonly powerPreference?: AdapterPreference;
  /** Ask for no more than WebGPU's default limits and no optional feature: what the weakest adapter offers. For tests. */
  readonly minimal?: boolean;
  /** `false`: the kernels' plain builds, though the adapter has subgroups. For tests. */
  readonly subgroups?: boolean;
  /** `false`: float32 kernels for f16 operands too, though the adapter has shader-f16. For tests. */
  readonly f16?: boolean;
  /** In Node: Dawn's own switches. */
  readonly dawn?: DawnOptions;
}

export interface OpenedDevice {
  readonly device: Device;
  /** For people: vendor, architecture, driver, and which build of the kernels was chosen. */
  readonly name: string;
  /** Of every subgroup, where the adapter says that it is always the same. */
  readonly subgroupSize: number | undefined;
  readonly features: ReadonlySet<string>;
}

/** Offered only where Dawn's `allow_unsafe_apis` is enabled. */
const MATRICES = "chromium-experimental-subgroup-matrix";

/** What is asked for when the adapter has it. */
const wantedFeatures = ["subgroups", "shader-f16", "timestamp-query", MATRICES] as const;
/** Raised to what the adapter offers. */
const wantedLimits = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "minUniformBufferOffsetAlignment",
  "minStorageBufferOffsetAlignment",
] as const;

async function requestAdapter(gpu: GPU, preference: AdapterPreference): Promise<Adapter | null> {
  return gpu.requestAdapter(
    preference === "fallback" ? { forceFallbackAdapter: true } : { powerPreference: preference },
  );
}

export async function openDevice(options: AdapterOptions): Promise<OpenedDevice> {
  const { powerPreference = "high-performance", minimal = false, dawn = {} } = options;
  const adapter = await requestAdapter(await findGpu(dawn), powerPreference);
  if (adapter === null)
    throw new UnsupportedError("webgpu: no adapter is available here", {
      hint: "a graphics driver is needed (on Linux a Vulkan one), or a software one such as SwiftShader in VK_DRIVER_FILES",
    });
  const features = featuresOf(adapter, options);
  const device = await adapter.requestDevice({
    label: "mamba-ts",
    requiredFeatures: features as GPUFeatureName[],
    requiredLimits: minimal ? {} : Object.fromEntries(wantedLimits.map((name) => [name, adapter.limits[name]])),
  });
  const subgroupSize = features.includes("subgroups") ? fixedSubgroupSize(adapter) : undefined;
  return { device, name: nameOf(adapter, features), features: new Set(features), subgroupSize };
}

function featuresOf(adapter: Adapter, { minimal = false, subgroups = true, f16 = true }: AdapterOptions) {
  const refused = new Set<string>([...(subgroups ? [] : ["subgroups"]), ...(f16 ? [] : ["shader-f16"])]);
  if (minimal) return [];
  // What matmul/matrices.wgsl is written for.
  if (!f16 || fixedSubgroupSize(adapter) !== 32 || !hasMatrices(adapter)) refused.add(MATRICES);
  return wantedFeatures.filter((feature) => adapter.features.has(feature) && !refused.has(feature));
}

function hasMatrices({ info }: Adapter): boolean {
  const { subgroupMatrixConfigs = [] } = info as { subgroupMatrixConfigs?: readonly MatrixConfig[] };
  const isOurs = ({ componentType, resultComponentType, M, N, K }: MatrixConfig): boolean =>
    componentType === "f16" && resultComponentType === "f32" && [M, N, K].every((side) => side === 16);
  return subgroupMatrixConfigs.some(isOurs);
}

interface MatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** Kernels are built for one size of subgroup. Where it varies from pipeline to pipeline they do without. */
function fixedSubgroupSize({ info }: Adapter): number | undefined {
  const { subgroupMinSize, subgroupMaxSize } = info;
  const isFixed = subgroupMinSize !== undefined && subgroupMinSize >= 4 && subgroupMinSize === subgroupMaxSize;
  return isFixed ? subgroupMinSize : undefined;
}

function nameOf(adapter: Adapter, features: readonly string[]): string {
  const { info } = adapter;
  const parts = [info.vendor, info.architecture, info.device, info.description].filter((part) => part !== "");
  const name = parts.length === 0 ? "adapter without a name" : [...new Set(parts)].join(" ");
  const isSoftware = info.isFallbackAdapter || /swiftshader|llvmpipe|basic render/i.test(name);
  const subgroupSize = features.includes("subgroups") ? fixedSubgroupSize(adapter) : undefined;
  const build = [
    subgroupSize === undefined ? "without subgroups" : `subgroups of ${subgroupSize}`,
    features.includes(MATRICES) ? "f16 on matrix units" : features.includes("shader-f16") ? "f16" : "f16 as float32",
  ];
  return `${name}, ${build.join(", ")}${isSoftware ? " (software)" : ""}`;
}

/** An adapter of this machine, as it presents itself. */
export interface AdapterReport {
  /** Who it is, and which build of the kernels would run on it: what a backend's `device` says. */
  readonly name: string;
  /** What asking for each kind gives: several kinds may be one adapter. */
  readonly preferences: readonly AdapterPreference[];
  /** Whether `createBackend()` without options takes it. */
  readonly isChosen: boolean;
  readonly features: readonly string[];
  readonly limits: { readonly [name: string]: number };
}

/**
 * Every adapter that can be asked for, the chosen one first.
 * @returns none where there is no adapter; throws UnsupportedError where there is no WebGPU at all
 */
export async function listAdapters({ dawn = {} }: { readonly dawn?: DawnOptions } = {}): Promise<AdapterReport[]> {
  const gpu = await findGpu(dawn);
  const found = new Map<string, AdapterReport>();
  for (const preference of ["high-performance", "low-power", "fallback"] as const) {
    const adapter = await requestAdapter(gpu, preference);
    if (adapter === null) continue;
    const name = nameOf(adapter, featuresOf(adapter, {}));
    const known = found.get(name);
    const limits = Object.fromEntries(wantedLimits.map((limit) => [limit, adapter.limits[limit]]));
    found.set(name, {
      name,
      preferences: [...(known?.preferences ?? []), preference],
      isChosen: known?.isChosen ?? preference === "high-performance",
      features: [...adapter.features].sort(),
      limits,
    });
  }
  return [...found.values()];
}
