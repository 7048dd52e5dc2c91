import type { Backend, FusedOps } from "@mamba-ts/backend";
import { backendOn } from "./backend.js";
import { fusedOps } from "./fused/index.js";
import type { AdapterPreference } from "./gpu/adapter.js";
import type { DawnOptions } from "./gpu/dawn.js";
import { Gpu } from "./gpu/gpu.js";
import { WebGpuMemory } from "./storage.js";
import { rememberDevice } from "./warm-up.js";

export { type AdapterPreference, type AdapterReport, listAdapters } from "./gpu/adapter.js";
export type { DawnOptions } from "./gpu/dawn.js";
export { type WarmUpOptions, warmUp } from "./warm-up.js";

export interface WebGpuBackendOptions {
  /** Which of several adapters, see `listAdapters`: "high-performance" by default. */
  readonly powerPreference?: AdapterPreference;
  /** In Node: Dawn's own switches, such as `{ enable: ["vulkan_enable_f16_on_nvidia"] }`. Browsers have theirs. */
  readonly dawn?: DawnOptions;
  /** Replaces the fused ops; `{}` leaves every operation to its composition. */
  readonly fused?: FusedOps;
  /** No more than WebGPU's default limits and features, whatever the adapter has. For tests. */
  readonly minimal?: boolean;
  /** `false`: kernels without subgroups, though the adapter has them. For tests. */
  readonly subgroups?: boolean;
  /** `false`: kernels without f16 arithmetic, though the adapter has it. For tests. */
  readonly f16?: boolean;
  /** Fills every new buffer with values nobody expects: shows operations that do not write all of their result. For tests. */
  readonly poison?: boolean;
}

/**
 * Opens the browser's GPU, or in Node, through the package `webgpu`, Dawn's. Float32 arithmetic; weights may be f16, bf16 or q8_0.
 * Throws UnsupportedError where there is no WebGPU or no adapter. What fails on the device later is thrown by the next read or
 * `synchronize`: BackendError with the kernel and its shapes, OutOfMemoryError, DeviceLostError.
 */
export async function createBackend(options: WebGpuBackendOptions = {}): Promise<Backend> {
  const gpu = await Gpu.open(options);
  const memory = new WebGpuMemory(gpu, { poison: options.poison ?? false });
  const backend = backendOn(gpu, memory, options.fused ?? fusedOps(memory));
  rememberDevice(backend, gpu);
  return backend;
}
