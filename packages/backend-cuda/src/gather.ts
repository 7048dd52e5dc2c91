import type { Buf, Operand, Shape } from "@mamba-ts/backend";
import type { CudaDevice } from "./device.js";
import { fill } from "./elementwise.js";
import { i64 } from "./launch.js";
import { around, sizeOf } from "./shapes.js";

export function gather(device: CudaDevice, x: Operand, indices: Operand, axis: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  const count = sizeOf(indices.shape);
  const total = outer * count * inner;
  const y = device.alloc(total, x.dtype);
  const parameters = [device.own(x), device.own(indices), y, i64(total), i64(n), i64(count), i64(inner)];
  device.each("gather", `gather_${x.dtype}`, total, parameters, "ends");
  return y;
}

export function scatterAdd(device: CudaDevice, shape: Shape, indices: Operand, updates: Operand, axis: number): Buf {
  const { outer, n, inner } = around(shape, axis);
  const count = sizeOf(indices.shape);
  if (count === 0) return fill(device, shape, 0, updates.dtype);
  const y = device.alloc(sizeOf(shape), updates.dtype);
  const parameters = [device.own(indices), device.own(updates), y, i64(n), i64(count), i64(inner)];
  const shared = inner * (updates.dtype === "float64" ? 8 : 4);
  // Blocks read all indices: the fewer blocks, the better.
  if (count < n * Math.ceil(inner / 256) && shared <= 40 * 1024 && outer <= 65_535) {
    if (y.room > 0) device.native.set(y.pointer, 0, y.byteLength);
    device.launch("gather", `scatter_first_${updates.dtype}`, [count, outer], [256], parameters, shared);
    return y;
  }
  device.launch("gather", `scatter_add_${updates.dtype}`, [outer * n, Math.ceil(inner / 256)], [256], parameters);
  return y;
}
