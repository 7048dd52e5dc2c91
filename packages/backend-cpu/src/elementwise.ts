import type { BinaryOp, Buf, CompareOp, DType, Operand, Shape, UnaryOp } from "@mamba-ts/backend";
import { erf, sigmoid, softplus } from "./functions.js";
import type { CpuMemory } from "./storage.js";
import { broadcastShape, indexerOf, sizeOf } from "./strides.js";
import { output, read, type Values } from "./values.js";

const unaryFunctions: { readonly [K in UnaryOp]: (x: number) => number } = {
  neg: (x) => -x,
  abs: Math.abs,
  sign: (x) => (x > 0 ? 1 : x < 0 ? -1 : x === 0 ? 0 : x),
  exp: Math.exp,
  log: Math.log,
  sqrt: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x),
  reciprocal: (x) => 1 / x,
  sin: Math.sin,
  cos: Math.cos,
  tanh: Math.tanh,
  sigmoid,
  softplus,
  erf,
  floor: Math.floor,
};

export function unary(memory: CpuMemory, op: UnaryOp, x: Operand): Buf {
  const f = unaryFunctions[op];
  const out = output(memory, sizeOf(x.shape), x.dtype);
  const [a, y] = [read(memory, x.buf), out.values];
  for (let i = 0; i < y.length; i++) y[i] = f(a[i]!);
  return out.finish();
}

const binaryFunctions: { readonly [K in BinaryOp]: (a: number, b: number) => number } = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  max: Math.max,
  min: Math.min,
  pow: (a, b) => a ** b,
};
const compareFunctions: { readonly [K in CompareOp]: (a: number, b: number) => number } = {
  eq: (a, b) => (a === b ? 1 : 0),
  ne: (a, b) => (a !== b ? 1 : 0),
  lt: (a, b) => (a < b ? 1 : 0),
  le: (a, b) => (a <= b ? 1 : 0),
  gt: (a, b) => (a > b ? 1 : 0),
  ge: (a, b) => (a >= b ? 1 : 0),
};

/** Same shapes, one of the commonest operations: loops the engine can compile well, one per operation. */
function sameShape(op: BinaryOp, a: Values, b: Values, y: Values): void {
  const n = y.length;
  if (op === "add") for (let i = 0; i < n; i++) y[i] = a[i]! + b[i]!;
  else if (op === "sub") for (let i = 0; i < n; i++) y[i] = a[i]! - b[i]!;
  else if (a instanceof Int32Array && op === "mul") for (let i = 0; i < n; i++) y[i] = Math.imul(a[i]!, b[i]!);
  else if (op === "mul") for (let i = 0; i < n; i++) y[i] = a[i]! * b[i]!;
  else {
    const f = binaryFunctions[op];
    for (let i = 0; i < n; i++) y[i] = f(a[i]!, b[i]!);
  }
}

function broadcast(
  f: (a: number, b: number) => number,
  a: Values,
  aShape: Shape,
  b: Values,
  bShape: Shape,
  y: Values,
  shape: Shape,
): void {
  const width = shape.at(-1) ?? 1;
  const aStep = (aShape.at(-1) ?? 1) === 1 ? 0 : 1;
  const bStep = (bShape.at(-1) ?? 1) === 1 ? 0 : 1;
  const lead = shape.slice(0, -1);
  const aRow = indexerOf(aShape, lead);
  const bRow = indexerOf(bShape, lead);
  const rows = sizeOf(lead);
  for (let r = 0, i = 0; r < rows; r++) {
    const p = aRow(r);
    const q = bRow(r);
    for (let j = 0; j < width; j++, i++) y[i] = f(a[p + j * aStep]!, b[q + j * bStep]!);
  }
}

function isSame(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((n, i) => n === b[i]);
}

export function binary(memory: CpuMemory, op: BinaryOp, a: Operand, b: Operand): Buf {
  const shape = broadcastShape(a.shape, b.shape);
  const out = output(memory, sizeOf(shape), a.dtype);
  const [x, z] = [read(memory, a.buf), read(memory, b.buf)];
  if (isSame(a.shape, b.shape)) sameShape(op, x, z, out.values);
  else
    broadcast(
      x instanceof Int32Array && op === "mul" ? Math.imul : binaryFunctions[op],
      x,
      a.shape,
      z,
      b.shape,
      out.values,
      shape,
    );
  return out.finish();
}

export function compare(memory: CpuMemory, op: CompareOp, a: Operand, b: Operand): Buf {
  const shape = broadcastShape(a.shape, b.shape);
  const out = output(memory, sizeOf(shape), "int32");
  broadcast(compareFunctions[op], read(memory, a.buf), a.shape, read(memory, b.buf), b.shape, out.values, shape);
  return out.finish();
}

export function where(memory: CpuMemory, cond: Operand, a: Operand, b: Operand): Buf {
  const shape = broadcastShape(cond.shape, broadcastShape(a.shape, b.shape));
  const out = output(memory, sizeOf(shape), a.dtype);
  const [c, x, z, y] = [read(memory, cond.buf), read(memory, a.buf), read(memory, b.buf), out.values];
  const lead = shape.slice(0, -1);
  const width = shape.at(-1) ?? 1;
  const rows = [cond.shape, a.shape, b.shape].map((s) => indexerOf(s, lead)) as [
    (r: number) => number,
    (r: number) => number,
    (r: number) => number,
  ];
  const [cs, xs, zs] = [cond.shape, a.shape, b.shape].map((s) => ((s.at(-1) ?? 1) === 1 ? 0 : 1)) as [
    number,
    number,
    number,
  ];
  for (let r = 0, i = 0; r < sizeOf(lead); r++) {
    const [p, q, s] = [rows[0](r), rows[1](r), rows[2](r)];
    for (let j = 0; j < width; j++, i++) y[i] = c[p + j * cs] !== 0 ? x[q + j * xs]! : z[s + j * zs]!;
  }
  return out.finish();
}

export function cast(memory: CpuMemory, x: Operand, to: DType): Buf {
  const out = output(memory, sizeOf(x.shape), to);
  const [a, y] = [read(memory, x.buf), out.values];
  if (y instanceof Int32Array) for (let i = 0; i < y.length; i++) y[i] = Math.trunc(a[i]!);
  else y.set(a);
  return out.finish();
}

export function fill(memory: CpuMemory, shape: Shape, value: number, dtype: DType): Buf {
  const out = output(memory, sizeOf(shape), dtype);
  out.values.fill(value);
  return out.finish();
}
