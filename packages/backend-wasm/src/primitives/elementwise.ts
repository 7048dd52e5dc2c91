import { type BinaryOp, type Buf, type CompareOp, DTypeError, type Operand, type UnaryOp } from "@mamba-ts/backend";
import { broadcastShape, broadcastSteps, mergeAxes, sizeOf } from "../runtime/axes.js";
import { operation } from "../runtime/call.js";
import type { WasmMemory } from "../runtime/memory.js";

/** The order of kernels/unary/unary.cc. */
const unaryOps: readonly UnaryOp[] = [
  ...(["neg", "abs", "sign", "exp", "log", "sqrt", "rsqrt", "reciprocal"] as const),
  ...(["sin", "cos", "tanh", "sigmoid", "softplus", "erf", "floor"] as const),
];
/** The order of kernels/binary/binary.cc. */
const binaryOps: readonly BinaryOp[] = ["add", "sub", "mul", "div", "max", "min", "pow"];
/** The order of kernels/compare/compare.cc. */
const compareOps: readonly CompareOp[] = ["eq", "ne", "lt", "le", "gt", "ge"];

/** See `Primitives.unary`. */
export function unary(memory: WasmMemory, op: UnaryOp, x: Operand): Buf {
  const index = unaryOps.indexOf(op);
  if (x.dtype === "int32" && index > 2) throw new DTypeError(`wasm: ${op} of int32`, { hint: "cast to float32 first" });
  return operation(memory, (call) => {
    const n = sizeOf(x.shape);
    const from = call.numbers(x);
    const y = call.result(n, x.dtype);
    if (x.dtype === "int32") call.kernels.unary_int(y.at, from, n, index);
    else call.kernels.unary(y.at, from, n, index);
    return y.finish();
  });
}

/** Axis lengths and steps of operands that broadcast to `shape`. */
function runs(memory: WasmMemory, shape: readonly number[], operands: readonly Operand[]): [rank: number, at: number] {
  const { rank, spec } = mergeAxes(
    shape,
    operands.map((x) => broadcastSteps(x.shape, shape.length)),
  );
  return [rank, memory.words(spec)];
}

/** See `Primitives.binary`. */
export function binary(memory: WasmMemory, op: BinaryOp, a: Operand, b: Operand): Buf {
  if (a.dtype === "int32" && (op === "div" || op === "pow"))
    throw new DTypeError(`wasm: ${op} of int32`, { hint: "cast to float32 first" });
  const shape = broadcastShape(a.shape, b.shape);
  return operation(memory, (call) => {
    const [p, q] = [call.numbers(a), call.numbers(b)];
    const y = call.result(sizeOf(shape), a.dtype);
    const kernel = a.dtype === "int32" ? call.kernels.binary_int : call.kernels.binary;
    if (sizeOf(shape) > 0) kernel(y.at, p, q, ...runs(memory, shape, [a, b]), binaryOps.indexOf(op));
    return y.finish();
  });
}

/** See `Primitives.compare`. */
export function compare(memory: WasmMemory, op: CompareOp, a: Operand, b: Operand): Buf {
  const shape = broadcastShape(a.shape, b.shape);
  return operation(memory, (call) => {
    const [p, q] = [call.numbers(a), call.numbers(b)];
    const y = call.alloc(sizeOf(shape), "int32");
    const kernel = a.dtype === "int32" ? call.kernels.compare_int : call.kernels.compare;
    if (y.count > 0) kernel(y.at, p, q, ...runs(memory, shape, [a, b]), compareOps.indexOf(op));
    return y;
  });
}

/** See `Primitives.where`. */
export function where(memory: WasmMemory, cond: Operand, a: Operand, b: Operand): Buf {
  const shape = broadcastShape(cond.shape, broadcastShape(a.shape, b.shape));
  return operation(memory, (call) => {
    const [c, p, q] = [call.at(cond), call.numbers(a), call.numbers(b)];
    const y = call.result(sizeOf(shape), a.dtype);
    if (sizeOf(shape) > 0) call.kernels.where(y.at, c, p, q, ...runs(memory, shape, [cond, a, b]));
    return y.finish();
  });
}
