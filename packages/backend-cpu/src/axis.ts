import type { ArgReduceOp, Buf, Operand, ReduceOp, Shape, StridedView } from "@mamba-ts/backend";
import type { CpuMemory } from "./storage.js";
import { around, sizeOf } from "./strides.js";
import { output, read } from "./values.js";

export function reduce(memory: CpuMemory, op: ReduceOp, x: Operand, axis: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  const out = output(memory, outer * inner, x.dtype);
  const [a, y] = [read(memory, x.buf), out.values];
  // Sums run in doubles, a row of `inner` at a time so that memory is read in order.
  const row = new Float64Array(inner);
  for (let o = 0; o < outer; o++) {
    row.fill(op === "sum" ? 0 : Number.NEGATIVE_INFINITY);
    for (let k = 0; k < n; k++) {
      const at = (o * n + k) * inner;
      if (op === "sum") for (let i = 0; i < inner; i++) row[i] = row[i]! + a[at + i]!;
      else for (let i = 0; i < inner; i++) row[i] = Math.max(row[i]!, a[at + i]!);
    }
    for (let i = 0; i < inner; i++) y[o * inner + i] = row[i]!;
  }
  return out.finish();
}

export function argReduce(memory: CpuMemory, op: ArgReduceOp, x: Operand, axis: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  const out = output(memory, outer * inner, "int32");
  const [a, y] = [read(memory, x.buf), out.values];
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

export function gather(memory: CpuMemory, x: Operand, indices: Operand, axis: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  const at = read(memory, indices.buf);
  const out = output(memory, outer * at.length * inner, x.dtype === "q8_0" ? "float32" : x.dtype);
  const [a, y] = [read(memory, x.buf), out.values];
  for (let o = 0, to = 0; o < outer; o++)
    for (let k = 0; k < at.length; k++, to += inner) {
      const index = at[k]!;
      const from = (o * n + index) * inner;
      if (index < 0 || index >= n) y.fill(0, to, to + inner);
      else for (let i = 0; i < inner; i++) y[to + i] = a[from + i]!;
    }
  return out.finish();
}

export function scatterAdd(memory: CpuMemory, shape: Shape, indices: Operand, updates: Operand, axis: number): Buf {
  const { outer, n, inner } = around(shape, axis);
  const at = read(memory, indices.buf);
  const out = output(memory, sizeOf(shape), updates.dtype);
  const [a, y] = [read(memory, updates.buf), out.values];
  y.fill(0);
  for (let o = 0, from = 0; o < outer; o++)
    for (let k = 0; k < at.length; k++, from += inner) {
      const index = at[k]!;
      if (index < 0 || index >= n) continue;
      const to = (o * n + index) * inner;
      for (let i = 0; i < inner; i++) y[to + i] = y[to + i]! + a[from + i]!;
    }
  return out.finish();
}

export function pad(memory: CpuMemory, x: Operand, axis: number, before: number, after: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  const length = n + before + after;
  const out = output(memory, outer * length * inner, x.dtype);
  const [a, y] = [read(memory, x.buf), out.values];
  const first = Math.max(0, -before);
  const last = Math.min(n, length - before);
  for (let o = 0; o < outer; o++) {
    const to = o * length * inner;
    if (before > 0) y.fill(0, to, to + Math.min(before, length) * inner);
    if (after > 0) y.fill(0, to + Math.max(0, before + n) * inner, to + length * inner);
    if (last > first) y.set(a.subarray((o * n + first) * inner, (o * n + last) * inner), to + (first + before) * inner);
  }
  return out.finish();
}

export function concat(memory: CpuMemory, xs: readonly Operand[], axis: number): Buf {
  const { outer, inner } = around(xs[0]!.shape, axis);
  const total = xs.reduce((n, x) => n + x.shape[axis]!, 0);
  const out = output(memory, outer * total * inner, xs[0]!.dtype);
  let start = 0;
  for (const x of xs) {
    const run = x.shape[axis]! * inner;
    const a = read(memory, x.buf);
    for (let o = 0; o < outer; o++) out.values.set(a.subarray(o * run, (o + 1) * run), o * total * inner + start);
    start += run;
  }
  return out.finish();
}

export function copy(memory: CpuMemory, { buf, offset, shape, strides, dtype }: StridedView): Buf {
  const out = output(memory, sizeOf(shape), dtype);
  const [a, y] = [read(memory, buf), out.values];
  const rank = shape.length;
  const width = shape[rank - 1] ?? 1;
  const step = strides[rank - 1] ?? 1;
  const index = new Array<number>(Math.max(0, rank - 1)).fill(0);
  let row = offset;
  for (let i = 0; i < y.length; i += width) {
    if (step === 1 && width > 16) y.set(a.subarray(row, row + width), i);
    else for (let j = 0; j < width; j++) y[i + j] = a[row + j * step]!;
    for (let d = rank - 2; d >= 0; d--) {
      row += strides[d]!;
      if (++index[d]! < shape[d]!) break;
      row -= strides[d]! * shape[d]!;
      index[d] = 0;
    }
  }
  return out.finish();
}

export function linearScan(memory: CpuMemory, a: Operand, b: Operand, axis: number, reverse: boolean): Buf {
  const { outer, n, inner } = around(a.shape, axis);
  const out = output(memory, outer * n * inner, a.dtype);
  const [p, q, h] = [read(memory, a.buf), read(memory, b.buf), out.values];
  const step = reverse ? -inner : inner;
  for (let o = 0; o < outer; o++) {
    const start = (o * n + (reverse ? n - 1 : 0)) * inner;
    if (n > 0) for (let i = 0; i < inner; i++) h[start + i] = q[start + i]!;
    for (let k = 1, at = start + step; k < n; k++, at += step)
      for (let i = 0; i < inner; i++) h[at + i] = p[at + i]! * h[at - step + i]! + q[at + i]!;
  }
  return out.finish();
}
