import type { FusedOps } from "@mamba-ts/backend";
import type { CudaDevice } from "../device.js";

/** Every operation that has kernels of its own. */
export function fusedOps(_device: CudaDevice): FusedOps {
  return {};
}
