/** Operations that only move elements. They move them as stored: a zero is all zero bits in every format. */
import type { Buf, Operand, StridedView } from "@mamba-ts/backend";
import type { CpuMemory } from "./storage.js";
import { around, sizeOf } from "./strides.js";
import { stored, storedOutput } from "./values.js";

/** Zeros before and after along an axis, or less of it; see `Primitives.pad`. */
export function pad(memory: CpuMemory, x: Operand, axis: number, before: number, after: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  const length = n + before + after;
  const a = stored(memory, x.buf);
  const out = storedOutput(memory, outer * length * inner, x.dtype);
  const y = out.values;
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

/** Joins along an axis. */
export function concat(memory: CpuMemory, xs: readonly Operand[], axis: number): Buf {
  const { outer, inner } = around(xs[0]!.shape, axis);
  const total = xs.reduce((n, x) => n + x.shape[axis]!, 0);
  const parts = xs.map((x) => stored(memory, x.buf));
  const out = storedOutput(memory, outer * total * inner, xs[0]!.dtype);
  let start = 0;
  for (const [i, a] of parts.entries()) {
    const run = xs[i]!.shape[axis]! * inner;
    for (let o = 0; o < outer; o++) out.values.set(a.subarray(o * run, (o + 1) * run), o * total * inner + start);
    start += run;
  }
  return out.finish();
}

/** Makes a strided view dense. */
export function copy(memory: CpuMemory, { buf, offset, shape, strides, dtype }: StridedView): Buf {
  const a = stored(memory, buf);
  const out = storedOutput(memory, sizeOf(shape), dtype);
  const y = out.values;
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
