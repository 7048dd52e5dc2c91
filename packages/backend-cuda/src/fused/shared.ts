import type { DType, Operand } from "@mamba-ts/backend";
import type { CudaDevice } from "../device.js";
import { cast } from "../elementwise.js";
import type { CudaBuf } from "../memory.js";
import { copy } from "../shape.js";

/** The type that sums of this type are kept in, gradients of parameters among them. */
export function kept(dtype: DType): "float32" | "float64" {
  return dtype === "float64" ? "float64" : "float32";
}

/** A dense operand in another type for the time of `use`; itself where it has that type already. */
export function withDType<T>(device: CudaDevice, x: Operand, dtype: DType, use: (x: Operand) => T): T {
  if (x.dtype === dtype) return use(x);
  const buf = cast(device, x, dtype);
  try {
    return use({ ...x, buf, dtype });
  } finally {
    device.memory.free(buf);
  }
}

/** The matrix [rows, columns] from element `offset` on, as [columns, rows]. */
export function transpose(device: CudaDevice, buf: CudaBuf, offset: number, rows: number, columns: number): CudaBuf {
  return copy(device, { buf, offset, shape: [columns, rows], strides: [1, columns], dtype: buf.dtype }) as CudaBuf;
}
