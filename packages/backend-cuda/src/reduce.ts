import type { ArgReduceOp, Buf, Operand, ReduceOp } from "@mamba-ts/backend";
import type { CudaDevice } from "./device.js";
import { fill } from "./elementwise.js";
import { i32, i64, pointer } from "./launch.js";
import { around } from "./shapes.js";

const FILE = "reduce";
const ops: readonly ReduceOp[] = ["sum", "max"];
const extremes: readonly ArgReduceOp[] = ["max", "min"];
/** The largest number of blocks along y and z. */
const MAX_GRID = 65_535;

export function reduce(device: CudaDevice, op: ReduceOp, x: Operand, axis: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  if (outer * inner === 0 || n === 0)
    return fill(device, [outer * inner], op === "sum" ? 0 : Number.NEGATIVE_INFINITY, x.dtype);
  const y = device.alloc(outer * inner, x.dtype);
  const [code, from] = [i32(ops.indexOf(op)), device.own(x)];
  if (inner === 1) {
    device.launch(FILE, `reduce_rows_${x.dtype}`, [outer], [256], [from, y, i64(n), code]);
    return y;
  }
  const columns = Math.ceil(inner / 32);
  const size = x.dtype === "float64" ? 8 : 4;
  // One pass where that fills the device, else parts of the axis that a second pass joins.
  const wanted = Math.ceil((device.info.multiprocessors * 4) / (columns * outer));
  const parts = Math.max(1, Math.min(wanted, Math.ceil(n / 64), 256));
  for (let first = 0; first < outer; first += MAX_GRID) {
    const rows = Math.min(MAX_GRID, outer - first);
    const source = pointer(from, first * n * inner);
    const target = pointer(y, first * inner);
    if (parts === 1) {
      const parameters = [source, target, i64(n), i64(inner), i64(n), code];
      device.launch(FILE, `reduce_columns_${x.dtype}`, [columns, rows], [32, 8], parameters);
      continue;
    }
    const partial = device.alloc(
      rows * parts * inner,
      size === 8 ? "float64" : x.dtype === "int32" ? "int32" : "float32",
    );
    const length = Math.ceil(n / parts);
    const first_ = [source, partial, i64(n), i64(inner), i64(length), code];
    device.launch(FILE, `reduce_parts_${x.dtype}`, [columns, rows, parts], [32, 8], first_);
    const second = [partial, target, i64(parts), i64(inner), i64(parts), code];
    device.launch(FILE, `reduce_join_${x.dtype}`, [columns, rows], [32, 8], second);
    device.memory.free(partial);
  }
  return y;
}

export function argReduce(device: CudaDevice, op: ArgReduceOp, x: Operand, axis: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  const total = outer * inner;
  const y = device.alloc(total, "int32");
  const parameters = [device.own(x), y, i64(n), i64(inner), i64(total), i32(extremes.indexOf(op))];
  device.launch(FILE, `arg_reduce_${x.dtype}`, [Math.ceil(total / 8)], [256], parameters);
  return y;
}
