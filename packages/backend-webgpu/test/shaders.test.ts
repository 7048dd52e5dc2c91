/** Every shader, compiled on a device with WebGPU's default limits, in each of the forms that its constants give it. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { kernels } from "../src/generated/kernels.js";
import { openDevice } from "../src/gpu/adapter.js";
import { type KernelName, Pipelines } from "../src/gpu/pipelines.js";
import { adapterMissing } from "./adapter.js";

/** WebGPU's defaults, which every adapter has. */
const DEFAULT_BINDINGS = 8;
const DEFAULT_WORKGROUP_BYTES = 16_384;

/** Values that matter, by constant; others are 0 and 1. */
const values: { readonly [constant: string]: readonly number[] } = {
  OP: [0, 1, 2, 3, 6, 14, 16, 17, 21, 32, 36, 48],
  FROM: [0, 1, 2, 3, 4],
  TO: [0, 1, 2, 3],
  FORMAT: [0, 1, 2],
  KIND: [0, 1],
  A_MODE: [0, 1, 2],
  B_MODE: [0, 1, 2],
  WEIGHT: [0, 1, 2, 3],
  INNER_NORM: [0, 1, 2],
  D_STATE: [1, 16, 17],
  HEAD_DIM: [1, 64, 512],
  LANES: [8, 16, 32, 256],
  STAGE: [64, 2048],
  WIDTH: [1, 80],
  RADIX: [2, 3, 4, 5, 7, 8],
  THREADS: [256, 32, 64, 128],
};
/** Constants that belong together. */
const together: { readonly [kernel: string]: readonly { readonly [constant: string]: number }[] } = {
  "matmul/octets": [{ BM: 128, BN: 128, BK: 8 }],
  "matmul/quads": [
    { BM: 64, BN: 64, BK: 16 },
    { BM: 32, BN: 32, BK: 16 },
  ],
  "selective-scan/forward": [
    { D_STATE: 1, CHUNK: 8, LANES: 1, TILE: 16 },
    { D_STATE: 8, CHUNK: 8, LANES: 2, TILE: 16 },
    { D_STATE: 16, CHUNK: 8, LANES: 4, TILE: 16 },
    { D_STATE: 64, CHUNK: 8, LANES: 4, TILE: 8 },
  ],
  "selective-scan/backward-ends": [
    { D_STATE: 1, LANES: 1, TILE: 16 },
    { D_STATE: 16, LANES: 4, TILE: 16 },
    { D_STATE: 33, LANES: 4, TILE: 8 },
  ],
  "selective-scan/backward": [
    { D_STATE: 1, CHUNK: 8, LANES: 1, CHANNELS: 32, ROUND: 2 },
    { D_STATE: 16, CHUNK: 8, LANES: 4, CHANNELS: 32, ROUND: 2 },
    { D_STATE: 17, CHUNK: 8, LANES: 4, CHANNELS: 16, ROUND: 2 },
    { D_STATE: 64, CHUNK: 8, LANES: 4, CHANNELS: 8, ROUND: 2 },
  ],
};

/** Of kernels with more operands than every adapter binds: those that a model need not have. */
const optionalOperands: { readonly [kernel: string]: readonly string[] } = {
  "mamba-step/in-project": ["norm_bias", "in_bias"],
  "mamba-step/advance": ["dt_norm", "b_norm", "c_norm"],
};

function formsOf(name: KernelName): { readonly [constant: string]: number }[] {
  const { overrides, specialisations } = kernels[name];
  const bound = together[name] ?? [{}];
  const free = [...overrides, ...specialisations].filter((constant) => !(constant in bound[0]!));
  return bound.flatMap((fixed) => {
    const base = Object.fromEntries(free.map((constant) => [constant, (values[constant] ?? [0, 1])[0]!]));
    const forms = [{ ...fixed, ...base }];
    for (const constant of free)
      for (const value of (values[constant] ?? [0, 1]).slice(1)) forms.push({ ...fixed, ...base, [constant]: value });
    return forms;
  });
}

const MATRICES = "chromium-experimental-subgroup-matrix";

/** Of the machine's adapter, or else of the one of Dawn that runs nothing but checks everything; a browser has no such. */
async function deviceWithF16(): Promise<GPUDevice | undefined> {
  const opened = await openDevice({});
  if (opened.features.has("shader-f16")) return opened.device;
  opened.device.destroy();
  const { process } = globalThis as { process?: { versions?: { node?: string } } };
  if (process?.versions?.node === undefined) return undefined;
  const dawn = "webgpu";
  const { create } = (await import(/* @vite-ignore */ dawn)) as { create(options: string[]): GPU };
  // Kept for good: Dawn aborts the process when it is collected while a device lives.
  const gpu = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
  Object.assign(globalThis, { nullGpu: gpu });
  const adapter = await gpu.requestAdapter();
  return adapter!.requestDevice({ requiredFeatures: ["shader-f16", "subgroups", MATRICES] as GPUFeatureName[] });
}

describe.skipIf(adapterMissing !== undefined)("shaders", () => {
  let opened: Awaited<ReturnType<typeof openDevice>>;
  let roomy: Awaited<ReturnType<typeof openDevice>>;
  beforeAll(async () => {
    opened = await openDevice({ minimal: true });
    roomy = await openDevice({});
  });
  afterAll(() => {
    opened.device.destroy();
    roomy.device.destroy();
  });

  test("the device has the default limits", () => {
    expect(opened.device.limits.maxStorageBuffersPerShaderStage).toBe(DEFAULT_BINDINGS);
    expect(opened.device.limits.maxComputeWorkgroupStorageSize).toBe(DEFAULT_WORKGROUP_BYTES);
  });

  // The one for matrix units is compiled below.
  const plain = (Object.keys(kernels) as KernelName[]).filter((name) => name !== "matmul/matrices");
  test.each(plain)("%s", async (name) => {
    const fits = kernels[name].bindings.length <= DEFAULT_BINDINGS;
    // One that needs more goes without operands that may be absent; with all of them it is for adapters that offer more.
    const without = fits ? undefined : optionalOperands[name];
    if (!fits) {
      expect([name, without]).toEqual([name, expect.anything()]);
      expect(kernels[name].bindings.length - without!.length).toBeLessThanOrEqual(DEFAULT_BINDINGS);
    }
    const pipelines = new Pipelines(opened.device);
    for (const form of formsOf(name)) await pipelines.prepare(name, form as never, without && { without });
    if (!fits && kernels[name].bindings.length <= roomy.device.limits.maxStorageBuffersPerShaderStage)
      for (const form of formsOf(name)) await new Pipelines(roomy.device).prepare(name, form as never);
    if (!("subgroups" in kernels[name]) || roomy.subgroupSize === undefined) return;
    const withSubgroups = new Pipelines(roomy.device, roomy.subgroupSize);
    for (const form of formsOf(name)) await withSubgroups.prepare(name, form as never);
  });

  test("f16 builds", async ({ skip }) => {
    const device = await deviceWithF16();
    if (device === undefined) return skip("no adapter here offers shader-f16, and Dawn's null backend is for Node");
    const [pipelines, names] = [new Pipelines(device), Object.keys(kernels) as KernelName[]];
    const built = names.filter((name) => "f16" in kernels[name]);
    expect(built).toEqual(["matmul/octets", "matmul/quads"]);
    if (device.features.has(MATRICES))
      for (const form of formsOf("matmul/matrices"))
        await pipelines.prepare("matmul/matrices", { ...form, A_MODE: Math.max(1, form["A_MODE"]!) });
    for (const name of built)
      for (const form of formsOf(name)) await pipelines.prepare(name, form as never, { f16: true });
    device.destroy();
  });

  test("names neither too much nor too little", () => {
    for (const [name, { bindings, params }] of Object.entries(kernels)) {
      expect([name, bindings.length > 0, params.length > 0]).toEqual([name, true, true]);
    }
  });
});
