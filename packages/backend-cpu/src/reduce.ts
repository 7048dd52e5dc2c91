import type { ArgReduceOp, Buf, Operand, ReduceOp } from "@mamba-ts/backend";
import type { CpuMemory } from "./storage.js";
import { around } from "./strides.js";
import { output, read, type Values } from "./values.js";

/** Sum or maximum over one axis, in doubles; see `Primitives.reduce`. The maximum of no int32 is the smallest one. */
export function reduce(memory: CpuMemory, op: ReduceOp, x: Operand, axis: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  const a = read(memory, x.buf);
  const out = output(memory, outer * inner, x.dtype);
  const y = out.values;
  const start = op === "sum" ? 0 : x.dtype === "int32" ? -(2 ** 31) : Number.NEGATIVE_INFINITY;
  if (inner === 1)
    for (let o = 0; o < outer; o++)
      y[o] = op === "sum" ? sumOf(a, o * n, (o + 1) * n, start) : maxOf(a, o * n, (o + 1) * n, start);
  else {
    // A row of `inner` at a time, so that memory is read in order.
    const row = new Float64Array(inner);
    for (let o = 0; o < outer; o++) {
      row.fill(start);
      for (let k = 0, at = o * n * inner; k < n; k++, at += inner)
        if (op === "sum") for (let i = 0; i < inner; i++) row[i] = row[i]! + a[at + i]!;
        else for (let i = 0; i < inner; i++) row[i] = Math.max(row[i]!, a[at + i]!);
      for (let i = 0; i < inner; i++) y[o * inner + i] = row[i]!;
    }
  }
  return out.finish();
}

function sumOf(a: Values, from: number, end: number, start: number): number {
  let sum = start;
  for (let i = from; i < end; i++) sum += a[i]!;
  return sum;
}

function maxOf(a: Values, from: number, end: number, start: number): number {
  let top = start;
  for (let i = from; i < end; i++) top = Math.max(top, a[i]!);
  return top;
}

/** Where the extreme element along an axis is; see `Primitives.argReduce`. */
export function argReduce(memory: CpuMemory, op: ArgReduceOp, x: Operand, axis: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  const a = read(memory, x.buf);
  const out = output(memory, outer * inner, "int32");
  const y = out.values;
  for (let o = 0; o < outer; o++)
    for (let i = 0; i < inner; i++) {
      let best = 0;
      for (let k = 1; k < n; k++) {
        const candidate = a[(o * n + k) * inner + i]!;
        const champion = a[(o * n + best) * inner + i]!;
        if (Number.isNaN(champion)) break;
        if (Number.isNaN(candidate) || (op === "max" ? candidate > champion : candidate < champion)) best = k;
      }
      y[o * inner + i] = best;
    }
  return out.finish();
}
