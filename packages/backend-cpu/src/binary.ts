import type { BinaryOp, Buf, CompareOp, Operand } from "@mamba-ts/backend";
import { forEachRun } from "./broadcast.js";
import type { CpuMemory } from "./storage.js";
import { broadcastShape, sizeOf } from "./strides.js";
import { output, read, type Values } from "./values.js";

/** One run: y[to + i] = f(a[p + i s], b[q + i t]) for i < n. */
type Loop = (
  y: Values,
  to: number,
  n: number,
  a: Values,
  p: number,
  s: number,
  b: Values,
  q: number,
  t: number,
) => void;

/** A loop of its own per function, so that the engine can inline it. */
const binaryLoops: { readonly [K in BinaryOp]: Loop } = {
  add: (y, to, n, a, p, s, b, q, t) => {
    for (const end = to + n; to < end; to++, p += s, q += t) y[to] = a[p]! + b[q]!;
  },
  sub: (y, to, n, a, p, s, b, q, t) => {
    for (const end = to + n; to < end; to++, p += s, q += t) y[to] = a[p]! - b[q]!;
  },
  mul: (y, to, n, a, p, s, b, q, t) => {
    for (const end = to + n; to < end; to++, p += s, q += t) y[to] = a[p]! * b[q]!;
  },
  div: (y, to, n, a, p, s, b, q, t) => {
    for (const end = to + n; to < end; to++, p += s, q += t) y[to] = a[p]! / b[q]!;
  },
  max: (y, to, n, a, p, s, b, q, t) => {
    for (const end = to + n; to < end; to++, p += s, q += t) y[to] = Math.max(a[p]!, b[q]!);
  },
  min: (y, to, n, a, p, s, b, q, t) => {
    for (const end = to + n; to < end; to++, p += s, q += t) y[to] = Math.min(a[p]!, b[q]!);
  },
  pow: (y, to, n, a, p, s, b, q, t) => {
    for (const end = to + n; to < end; to++, p += s, q += t) y[to] = a[p]! ** b[q]!;
  },
};

/** The product of two int32 modulo 2^32, which a double does not hold. */
const integerProduct: Loop = (y, to, n, a, p, s, b, q, t) => {
  for (const end = to + n; to < end; to++, p += s, q += t) y[to] = Math.imul(a[p]!, b[q]!);
};

const compareLoops: { readonly [K in CompareOp]: Loop } = {
  eq: (y, to, n, a, p, s, b, q, t) => {
    for (const end = to + n; to < end; to++, p += s, q += t) y[to] = a[p]! === b[q]! ? 1 : 0;
  },
  ne: (y, to, n, a, p, s, b, q, t) => {
    for (const end = to + n; to < end; to++, p += s, q += t) y[to] = a[p]! !== b[q]! ? 1 : 0;
  },
  lt: (y, to, n, a, p, s, b, q, t) => {
    for (const end = to + n; to < end; to++, p += s, q += t) y[to] = a[p]! < b[q]! ? 1 : 0;
  },
  le: (y, to, n, a, p, s, b, q, t) => {
    for (const end = to + n; to < end; to++, p += s, q += t) y[to] = a[p]! <= b[q]! ? 1 : 0;
  },
  gt: (y, to, n, a, p, s, b, q, t) => {
    for (const end = to + n; to < end; to++, p += s, q += t) y[to] = a[p]! > b[q]! ? 1 : 0;
  },
  ge: (y, to, n, a, p, s, b, q, t) => {
    for (const end = to + n; to < end; to++, p += s, q += t) y[to] = a[p]! >= b[q]! ? 1 : 0;
  },
};

function runLoop(memory: CpuMemory, loop: Loop, a: Operand, b: Operand, dtype: Operand["dtype"]): Buf {
  const shape = broadcastShape(a.shape, b.shape);
  const [x, z] = [read(memory, a.buf), read(memory, b.buf)];
  const out = output(memory, sizeOf(shape), dtype);
  const y = out.values;
  forEachRun(shape, [a.shape, b.shape], (to, n, from, step) =>
    loop(y, to, n, x, from[0]!, step[0]!, z, from[1]!, step[1]!),
  );
  return out.finish();
}

/** Elementwise functions of two arguments, broadcast; see `Primitives.binary`. int32 wraps around. */
export function binary(memory: CpuMemory, op: BinaryOp, a: Operand, b: Operand): Buf {
  return runLoop(memory, op === "mul" && a.dtype === "int32" ? integerProduct : binaryLoops[op], a, b, a.dtype);
}

/** 1 where the comparison holds, else 0; see `Primitives.compare`. */
export function compare(memory: CpuMemory, op: CompareOp, a: Operand, b: Operand): Buf {
  return runLoop(memory, compareLoops[op], a, b, "int32");
}

/** Selects between `a` and `b`; see `Primitives.where`. */
export function where(memory: CpuMemory, cond: Operand, a: Operand, b: Operand): Buf {
  const shape = broadcastShape(cond.shape, broadcastShape(a.shape, b.shape));
  const [c, x, z] = [read(memory, cond.buf), read(memory, a.buf), read(memory, b.buf)];
  const out = output(memory, sizeOf(shape), a.dtype);
  const y = out.values;
  forEachRun(shape, [cond.shape, a.shape, b.shape], (to, n, from, step) => {
    let [r, p, q] = from as [number, number, number];
    const [u, s, t] = step as [number, number, number];
    for (const end = to + n; to < end; to++, r += u, p += s, q += t) y[to] = c[r] !== 0 ? x[p]! : z[q]!;
  });
  return out.finish();
}
