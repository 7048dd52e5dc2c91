/** A backend whose device can be looked into, with Dawn's timestamps as fine as the driver's. */
import type { Backend } from "@mamba-ts/backend";
import { Rng } from "@mamba-ts/tensor";
import { backendOn } from "../../src/backend.js";
import { fusedOps } from "../../src/fused/index.js";
import type { DawnOptions } from "../../src/gpu/dawn.js";
import { Gpu } from "../../src/gpu/gpu.js";
import { WebGpuMemory } from "../../src/storage.js";

export interface Opened {
  readonly backend: Backend;
  readonly gpu: Gpu;
}

/** PLAIN=1: without subgroups. F16=1: with shader-f16 where Dawn hides it. DAWN: more toggles, to find out what something costs. */
const dawn: DawnOptions = {
  enable: [...(process.env["F16"] ? ["vulkan_enable_f16_on_nvidia"] : []), ...(process.env["DAWN"]?.split(",") ?? [])],
  disable: ["timestamp_quantization"],
};

export async function open(): Promise<Opened> {
  const gpu = await Gpu.open({ dawn, subgroups: process.env["PLAIN"] === undefined });
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
