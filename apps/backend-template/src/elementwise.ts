import {
  type BinaryOp,
  type Buf,
  type CompareOp,
  type DType,
  DTypeError,
  type Operand,
  type Shape,
  type UnaryOp,
} from "@mamba-ts/backend";
import { broadcastIndex, broadcastShape, sizeOf } from "./shape.js";
import type { PagedMemory } from "./storage.js";

/**
 * y[i] = f(a[i], b[i], …) over operands broadcast against each other: every elementwise primitive is this with another `f`.
 *
 * Your backend: one kernel template, in which `f` is a line of source.
 */
function map(memory: PagedMemory, dtype: DType, operands: readonly Operand[], f: (...values: number[]) => number): Buf {
  const shape = operands.map((operand) => operand.shape).reduce(broadcastShape);
  const inputs = operands.map((operand) => {
    const [buf, at] = [memory.own(operand.buf), broadcastIndex(operand.shape, shape)];
    return (i: number) => buf.get(at(i));
  });
  const y = memory.alloc(sizeOf(shape), dtype);
  for (let i = 0; i < y.count; i++) y.set(i, f(...inputs.map((input) => input(i))));
  return y;
}

export const unaryFunctions: { readonly [K in UnaryOp]: (x: number) => number } = {
  neg: (x) => -x,
  abs: Math.abs,
  sign: Math.sign,
  exp: Math.exp,
  log: Math.log,
  sqrt: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x),
  reciprocal: (x) => 1 / x,
  sin: Math.sin,
  cos: Math.cos,
  tanh: Math.tanh,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  softplus: (x) => (x > 20 ? x : Math.log1p(Math.exp(x))),
  erf,
  floor: Math.floor,
};

/** Gauss error function to 2e-7 (Abramowitz and Stegun 7.1.26). */
function erf(x: number): number {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - p * Math.exp(-x * x));
}

export function unary(memory: PagedMemory, op: UnaryOp, x: Operand): Buf {
  return map(memory, x.dtype, [x], (value) => unaryFunctions[op](value));
}

/** Math.max and Math.min pass NaN on, which `max` and `min` must. */
export const binaryFunctions: { readonly [K in BinaryOp]: (a: number, b: number) => number } = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  max: (a, b) => Math.max(a, b),
  min: (a, b) => Math.min(a, b),
  pow: (a, b) => a ** b,
};

/** Those that int32 has. A product of two int32 may be no exact double, so it needs a multiplication of its own. */
const intFunctions: { readonly [K in BinaryOp]?: (a: number, b: number) => number } = {
  add: binaryFunctions.add,
  sub: binaryFunctions.sub,
  mul: Math.imul,
  max: binaryFunctions.max,
  min: binaryFunctions.min,
};

export function binary(memory: PagedMemory, op: BinaryOp, a: Operand, b: Operand): Buf {
  const f = a.dtype === "int32" ? intFunctions[op] : binaryFunctions[op];
  if (f === undefined) throw new DTypeError(`${op}: not defined on ${a.dtype}`, { hint: "cast to float32" });
  return map(memory, a.dtype, [a, b], f);
}

/** JavaScript's comparisons are those of IEEE 754: with NaN only `ne` holds. */
export const compareFunctions: { readonly [K in CompareOp]: (a: number, b: number) => boolean } = {
  eq: (a, b) => a === b,
  ne: (a, b) => a !== b,
  lt: (a, b) => a < b,
  le: (a, b) => a <= b,
  gt: (a, b) => a > b,
  ge: (a, b) => a >= b,
};

export function compare(memory: PagedMemory, op: CompareOp, a: Operand, b: Operand): Buf {
  return map(memory, "int32", [a, b], (x, y) => (compareFunctions[op](x, y) ? 1 : 0));
}

/** A choice, never arithmetic with the condition: 0 * NaN is NaN, and what is not selected must not show. */
export function where(memory: PagedMemory, cond: Operand, a: Operand, b: Operand): Buf {
  return map(memory, a.dtype, [cond, a, b], (c, x, y) => (c !== 0 ? x : y));
}

/** To int32 truncates towards zero, which is what storing a number in an Int32Array does. */
export function cast(memory: PagedMemory, x: Operand, to: DType): Buf {
  return map(memory, to, [x], (value) => value);
}

export function fill(memory: PagedMemory, shape: Shape, value: number, dtype: DType): Buf {
  const y = memory.alloc(sizeOf(shape), dtype);
  for (let i = 0; i < y.count; i++) y.set(i, value);
  return y;
}
