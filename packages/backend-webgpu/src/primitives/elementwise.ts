/** Primitives that make each element from the operands' elements in its place. */
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
import { broadcastShape, broadcastStrides, fold, four, sizeOf } from "../shapes.js";
import type { WebGpuBuf, WebGpuMemory } from "../storage.js";
import { cast, isHalf } from "./cast.js";
import { withFloat32 } from "./halves.js";
import { copy } from "./shape.js";

const unaryOps: readonly UnaryOp[] = [
  ...(["neg", "abs", "sign", "exp", "log", "sqrt", "rsqrt", "reciprocal"] as const),
  ...(["sin", "cos", "tanh", "sigmoid", "softplus", "erf", "floor"] as const),
];
const binaryOps: readonly BinaryOp[] = ["add", "sub", "mul", "div", "max", "min", "pow"];
const intBinaryOps: ReadonlySet<BinaryOp> = new Set(["add", "sub", "mul", "max", "min"]);
const compareOps: readonly CompareOp[] = ["eq", "ne", "lt", "le", "gt", "ge"];

export function unary(memory: WebGpuMemory, op: UnaryOp, x: Operand): Buf {
  if (isHalf(x.dtype)) return withFloat32(memory, [x], x.dtype, ([wide]) => unary(memory, op, wide!));
  const isInt = x.dtype === "int32";
  if (isInt && op === "floor") return cast(memory, x, "int32");
  const code = unaryOps.indexOf(op);
  if (isInt && code > 2) throw new DTypeError(`${op}: not defined on int32`, { hint: "cast to float32" });
  const from = memory.own(x.buf);
  const y = memory.alloc(sizeOf(x.shape), x.dtype);
  const constants = { OP: isInt ? code + 16 : code };
  memory.gpu.run("unary/unary", { x: from, y }, { count: y.count }, { constants, threads: y.count });
  return y;
}

/** The operands' buffers and strides over up to four axes; an operand of more is copied out, and freed by `done`. */
function aligned(memory: WebGpuMemory, shape: Shape, operands: readonly Operand[]) {
  const bufs = operands.map(({ buf }) => memory.own(buf));
  const all = operands.map((operand) => broadcastStrides(operand.shape, shape));
  const folded = fold(shape, all);
  if (folded.shape.length <= 4) return { bufs, folded, done: () => {} };
  const copies = operands.map(
    ({ buf, dtype }, k) => copy(memory, { buf, offset: 0, shape, strides: all[k]!, dtype }) as WebGpuBuf,
  );
  const dense = broadcastStrides(shape, shape);
  return {
    bufs: copies,
    folded: fold(
      shape,
      operands.map(() => dense),
    ),
    done: () => {
      for (const made of copies) memory.free(made);
    },
  };
}

function launchBinary(memory: WebGpuMemory, code: number, a: Operand, b: Operand, dtype: DType): Buf {
  const shape = broadcastShape(a.shape, b.shape);
  const { bufs, folded, done } = aligned(memory, shape, [a, b]);
  const y = memory.alloc(sizeOf(shape), dtype);
  const isDense = folded.shape.length <= 1 && folded.strides.every(([stride]) => (stride ?? 1) === 1);
  memory.gpu.run(
    "binary/binary",
    { a: bufs[0], b: bufs[1], y },
    {
      shape: four(folded.shape, 1),
      a_strides: four(folded.strides[0]!, 0),
      b_strides: four(folded.strides[1]!, 0),
      count: y.count,
    },
    { constants: { OP: a.dtype === "int32" ? code + 32 : code, IS_DENSE: Number(isDense) }, threads: y.count },
  );
  done();
  return y;
}

export function binary(memory: WebGpuMemory, op: BinaryOp, a: Operand, b: Operand): Buf {
  if (isHalf(a.dtype)) return withFloat32(memory, [a, b], a.dtype, ([u, v]) => binary(memory, op, u!, v!));
  if (a.dtype === "int32" && !intBinaryOps.has(op))
    throw new DTypeError(`${op}: not defined on int32`, { hint: "cast to float32" });
  return launchBinary(memory, binaryOps.indexOf(op), a, b, a.dtype);
}

export function compare(memory: WebGpuMemory, op: CompareOp, a: Operand, b: Operand): Buf {
  if (isHalf(a.dtype)) return withFloat32(memory, [a, b], "int32", ([u, v]) => compare(memory, op, u!, v!));
  return launchBinary(memory, 16 + compareOps.indexOf(op), a, b, "int32");
}

export function where(memory: WebGpuMemory, cond: Operand, a: Operand, b: Operand): Buf {
  if (isHalf(a.dtype)) return withFloat32(memory, [a, b], a.dtype, ([u, v]) => where(memory, cond, u!, v!));
  const shape = broadcastShape(cond.shape, broadcastShape(a.shape, b.shape));
  const { bufs, folded, done } = aligned(memory, shape, [cond, a, b]);
  const y = memory.alloc(sizeOf(shape), a.dtype);
  const [c, u, v] = folded.strides;
  memory.gpu.run(
    "where/where",
    { cond: bufs[0], a: bufs[1], b: bufs[2], y },
    {
      shape: four(folded.shape, 1),
      c_strides: four(c!, 0),
      a_strides: four(u!, 0),
      b_strides: four(v!, 0),
      count: y.count,
    },
    { threads: y.count },
  );
  done();
  return y;
}

const scratch = new DataView(new ArrayBuffer(4));

/** The bits of a number in a 32-bit format. */
export function wordOf(value: number, dtype: "float32" | "int32"): number {
  if (dtype === "float32") scratch.setFloat32(0, value);
  else scratch.setInt32(0, value);
  return scratch.getUint32(0);
}

export function fill(memory: WebGpuMemory, shape: Shape, value: number, dtype: DType): Buf {
  if (dtype !== "float32" && dtype !== "int32") {
    const wide = fill(memory, shape, value, "float32");
    const y = cast(memory, { buf: wide, offset: 0, rowStride: shape.at(-1) ?? 1, shape, dtype: "float32" }, dtype);
    memory.free(wide);
    return y;
  }
  const y = memory.alloc(sizeOf(shape), dtype);
  const params = { start: 0, count: y.count, word: wordOf(value, dtype) };
  memory.gpu.run("fill/fill", { y }, params, { threads: y.count });
  return y;
}
