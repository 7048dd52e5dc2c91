import type { Backend, FusedOps } from "@mamba-ts/backend";
import { backendOn } from "./backend.js";
import { fusedOps } from "./fused/index.js";
import { Gpu } from "./gpu/gpu.js";
import { WebGpuMemory } from "./storage.js";

export interface WebGpuBackendOptions {
  /** Which of several adapters: "high-performance" by default. */
  readonly powerPreference?: "high-performance" | "low-power";
  /** Replaces the fused ops; `{}` leaves every operation to its composition. */
  readonly fused?: FusedOps;
  /** No more than WebGPU's default limits and features, whatever the adapter has. For tests. */
  readonly minimal?: boolean;
  /** `false`: kernels without subgroups, though the adapter has them. For tests. */
  readonly subgroups?: boolean;
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
  return backendOn(gpu, memory, options.fused ?? fusedOps(memory));
}
