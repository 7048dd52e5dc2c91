import type { Buf, Operand } from "@mamba-ts/backend";
import type { CudaDevice } from "./device.js";
import { i32, i64 } from "./launch.js";
import { around, sizeOf } from "./shapes.js";

export function linearScan(device: CudaDevice, a: Operand, b: Operand, axis: number, reverse: boolean): Buf {
  const { outer, n, inner } = around(a.shape, axis);
  const h = device.alloc(sizeOf(a.shape), a.dtype);
  const channels = n === 0 ? 0 : outer * inner;
  const parameters = [device.own(a), device.own(b), h, i64(channels), i64(n), i64(inner), i32(reverse)];
  device.each("linear_scan", `linear_scan_${a.dtype}`, channels, parameters);
  return h;
}
