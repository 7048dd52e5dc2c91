/** Finds an adapter and opens a device on it, in browsers and in Node. */
import { UnsupportedError } from "@mamba-ts/backend";
import type { Adapter, Device } from "./types.js";

export interface AdapterOptions {
  /** Which of several adapters: "high-performance" by default. */
  readonly powerPreference?: "high-performance" | "low-power";
  /** Ask for no more than WebGPU's default limits and no optional feature: what the weakest adapter offers. For tests. */
  readonly minimal?: boolean;
  /** `false`: the kernels' plain builds, though the adapter has subgroups. For tests. */
  readonly subgroups?: boolean;
}

export interface OpenedDevice {
  readonly device: Device;
  /** For people: vendor, architecture, driver, and which build of the kernels was chosen. */
  readonly name: string;
  /** Of every subgroup, where the adapter says that it is always the same. */
  readonly subgroupSize: number | undefined;
  readonly features: ReadonlySet<string>;
}

/** What is asked for when the adapter has it. */
const wantedFeatures = ["subgroups", "shader-f16", "timestamp-query"] as const;
/** Raised to what the adapter offers. */
const wantedLimits = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "minUniformBufferOffsetAlignment",
  "minStorageBufferOffsetAlignment",
] as const;

/** The process' one Dawn instance: Dawn aborts the process when it is collected while a device lives. */
const instanceKey = Symbol.for("mamba-ts.dawn");

/** No kernel reads workgroup memory before it has written it; zeroing it makes a software adapter compile ten times as long. */
const dawnFeatures = ["enable-dawn-features=disable_workgroup_init"];

async function findGpu(): Promise<GPU> {
  const ofBrowser = globalThis.navigator?.gpu;
  if (ofBrowser !== undefined) return ofBrowser;
  const { process } = globalThis as { process?: { versions?: { node?: string } } };
  if (process?.versions?.node === undefined)
    throw new UnsupportedError("webgpu: this browser has no WebGPU", {
      hint: "use a current Chrome, Edge, Safari or Firefox, or @mamba-ts/backend-cpu",
    });
  const global = globalThis as { [instanceKey]?: GPU };
  if (global[instanceKey] !== undefined) return global[instanceKey];
  // A name that no bundler follows: Dawn is for Node alone, and optional there.
  const dawn = "webgpu";
  let module: { create(options: string[]): GPU; globals: object };
  try {
    module = (await import(/* @vite-ignore */ /* webpackIgnore: true */ dawn)) as typeof module;
  } catch (cause) {
    throw new UnsupportedError("webgpu: in Node this backend needs the package webgpu, which cannot be loaded", {
      hint: "npm install webgpu",
      cause,
    });
  }
  Object.assign(globalThis, module.globals);
  return (global[instanceKey] = module.create(dawnFeatures));
}

export async function openDevice({
  powerPreference = "high-performance",
  minimal = false,
  subgroups = true,
}: AdapterOptions): Promise<OpenedDevice> {
  const gpu = await findGpu();
  const adapter = await gpu.requestAdapter({ powerPreference });
  if (adapter === null)
    throw new UnsupportedError("webgpu: no adapter is available here", {
      hint: "a graphics driver is needed (on Linux a Vulkan one), or a software one such as SwiftShader in VK_DRIVER_FILES",
    });
  const features = minimal ? [] : wantedFeatures.filter((feature) => adapter.features.has(feature));
  const device = await adapter.requestDevice({
    label: "mamba-ts",
    requiredFeatures: features,
    requiredLimits: minimal ? {} : Object.fromEntries(wantedLimits.map((name) => [name, adapter.limits[name]])),
  });
  const subgroupSize = subgroups && features.includes("subgroups") ? fixedSubgroupSize(adapter) : undefined;
  return { device, name: nameOf(adapter, subgroupSize), features: new Set(features), subgroupSize };
}

/** Kernels are built for one size of subgroup. Where it varies from pipeline to pipeline they do without. */
function fixedSubgroupSize({ info }: Adapter): number | undefined {
  const { subgroupMinSize, subgroupMaxSize } = info;
  const isFixed = subgroupMinSize !== undefined && subgroupMinSize >= 4 && subgroupMinSize === subgroupMaxSize;
  return isFixed ? subgroupMinSize : undefined;
}

function nameOf({ info }: Adapter, subgroupSize: number | undefined): string {
  const parts = [info.vendor, info.architecture, info.device, info.description].filter((part) => part !== "");
  const name = parts.length === 0 ? "adapter without a name" : [...new Set(parts)].join(" ");
  const isSoftware = info.isFallbackAdapter || /swiftshader|llvmpipe|basic render/i.test(name);
  const build = subgroupSize === undefined ? "without subgroups" : `subgroups of ${subgroupSize}`;
  return `${name}, ${build}${isSoftware ? " (software)" : ""}`;
}
