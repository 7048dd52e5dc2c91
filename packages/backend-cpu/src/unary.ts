import type { Buf, Operand, UnaryOp } from "@mamba-ts/backend";
import { erf, sigmoid, softplus } from "./functions.js";
import type { CpuMemory } from "./storage.js";
import { sizeOf } from "./strides.js";
import { output, read, type Values } from "./values.js";

type Loop = (y: Values, a: Values) => void;

/** A loop of its own per function: the engine inlines a function it always meets in the same place, and calls one it does not. */
const loops: { readonly [K in UnaryOp]: Loop } = {
  neg: (y, a) => {
    for (let i = 0; i < y.length; i++) y[i] = -a[i]!;
  },
  abs: (y, a) => {
    for (let i = 0; i < y.length; i++) y[i] = Math.abs(a[i]!);
  },
  sign: (y, a) => {
    for (let i = 0; i < y.length; i++) y[i] = Math.sign(a[i]!);
  },
  exp: (y, a) => {
    for (let i = 0; i < y.length; i++) y[i] = Math.exp(a[i]!);
  },
  log: (y, a) => {
    for (let i = 0; i < y.length; i++) y[i] = Math.log(a[i]!);
  },
  sqrt: (y, a) => {
    for (let i = 0; i < y.length; i++) y[i] = Math.sqrt(a[i]!);
  },
  rsqrt: (y, a) => {
    for (let i = 0; i < y.length; i++) y[i] = 1 / Math.sqrt(a[i]!);
  },
  reciprocal: (y, a) => {
    for (let i = 0; i < y.length; i++) y[i] = 1 / a[i]!;
  },
  sin: (y, a) => {
    for (let i = 0; i < y.length; i++) y[i] = Math.sin(a[i]!);
  },
  cos: (y, a) => {
    for (let i = 0; i < y.length; i++) y[i] = Math.cos(a[i]!);
  },
  tanh: (y, a) => {
    for (let i = 0; i < y.length; i++) y[i] = Math.tanh(a[i]!);
  },
  sigmoid: (y, a) => {
    for (let i = 0; i < y.length; i++) y[i] = sigmoid(a[i]!);
  },
  softplus: (y, a) => {
    for (let i = 0; i < y.length; i++) y[i] = softplus(a[i]!);
  },
  erf: (y, a) => {
    for (let i = 0; i < y.length; i++) y[i] = erf(a[i]!);
  },
  floor: (y, a) => {
    for (let i = 0; i < y.length; i++) y[i] = Math.floor(a[i]!);
  },
};

/** Elementwise functions of one argument; see `Primitives.unary`. Float32 arguments are computed in doubles and rounded once. */
export function unary(memory: CpuMemory, op: UnaryOp, x: Operand): Buf {
  const a = read(memory, x.buf);
  const out = output(memory, sizeOf(x.shape), x.dtype);
  loops[op](out.values, a);
  return out.finish();
}
