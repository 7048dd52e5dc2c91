import type { FusedOps } from "@mamba-ts/backend";
import type { WebGpuMemory } from "../storage.js";

/** The operations that have kernels of their own. */
export function fusedOps(_memory: WebGpuMemory): FusedOps {
  return {};
}
