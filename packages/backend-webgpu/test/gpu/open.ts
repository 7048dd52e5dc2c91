/** A backend whose device can be looked into, with Dawn's timestamps as fine as the driver's. */
import type { Backend } from "@mamba-ts/backend";
import { Rng } from "@mamba-ts/tensor";
import { backendOn } from "../../src/backend.js";
import { fusedOps } from "../../src/fused/index.js";
import { Gpu } from "../../src/gpu/gpu.js";
import { WebGpuMemory } from "../../src/storage.js";

export interface Opened {
  readonly backend: Backend;
  readonly gpu: Gpu;
}

export async function open(flags: readonly string[] = []): Promise<Opened> {
  const dawn = "webgpu";
  const { create, globals } = (await import(dawn)) as { create(options: string[]): GPU; globals: object };
  Object.assign(globalThis, globals);
  const key = Symbol.for("mamba-ts.dawn");
  const instance = create([
    "enable-dawn-features=disable_workgroup_init",
    "disable-dawn-features=timestamp_quantization",
    ...flags,
  ]);
  (globalThis as { [key]?: GPU })[key] ??= instance;
  const gpu = await Gpu.open({});
  return { gpu, backend: backendOn(gpu, new WebGpuMemory(gpu, { poison: false }), {}) };
}

/** Speed does not depend on the numbers, and drawing 130 million on the host takes longer than all that is measured. */
export function drawQuickly(): void {
  Rng.prototype.normal = fillQuickly;
  Rng.prototype.uniform = (n) => fillQuickly(n).map(Math.abs);
}

function fillQuickly(n: number): Float64Array<ArrayBuffer> {
  const all = new Float64Array(n);
  let x = 12345;
  for (let i = 0; i < n; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) | 0;
    all[i] = x / 2 ** 31;
  }
  return all;
}

export async function openFused(): Promise<Opened> {
  const { gpu } = await open();
  const memory = new WebGpuMemory(gpu, { poison: false });
  return { gpu, backend: backendOn(gpu, memory, fusedOps(memory)) };
}
