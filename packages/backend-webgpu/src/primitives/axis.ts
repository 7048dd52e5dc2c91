/** Primitives along one axis: the operand is seen as [outer, n, inner]. */
import { type ArgReduceOp, type Buf, DTypeError, type Operand, type ReduceOp, type Shape } from "@mamba-ts/backend";
import type { Located } from "../gpu/gpu.js";
import { around, sizeOf, threadsFor } from "../shapes.js";
import type { WebGpuMemory } from "../storage.js";
import { isHalf } from "./cast.js";
import { withFloat32 } from "./halves.js";

/** Elements that one thread adds up when there are plenty of threads. */
const STRETCH = 64;
/** Threads that keep a large device busy. */
const PLENTY = 2 ** 17;

/** Reduces the middle axis of a float32 or int32 array [outer, n, inner]. */
export function reduceMiddle(
  memory: WebGpuMemory,
  op: ReduceOp,
  x: Located,
  dtype: "float32" | "int32",
  outer: number,
  n: number,
  inner: number,
): Buf {
  const OP = (op === "max" ? 1 : 0) + (dtype === "int32" ? 2 : 0);
  const byRows = inner === 1 && n > 32;
  const columns = outer * inner;
  // A long axis with few columns is cut up: the pieces' results are reduced once more.
  const least = byRows ? 4096 : STRETCH;
  const lanes = byRows ? threadsFor(n) : 1;
  const wanted = Math.ceil(PLENTY / Math.max(1, columns * lanes));
  const splits = Math.max(1, Math.min(wanted, Math.ceil(n / least), 1024));
  const stretch = Math.ceil(n / splits);
  const y = memory.alloc(columns * splits, dtype);
  const count = y.count;
  if (byRows)
    memory.gpu.run(
      "reduce/rows",
      { x, y },
      { rows: outer, n, splits, stretch },
      {
        constants: { OP, THREADS: lanes },
        groups: count,
      },
    );
  else
    memory.gpu.run(
      "reduce/columns",
      { x, y },
      { count, n, inner, splits, stretch },
      { constants: { OP }, threads: count },
    );
  if (splits === 1) return y;
  const result = reduceMiddle(memory, op, y, dtype, outer, splits, inner);
  memory.free(y);
  return result;
}

export function reduce(memory: WebGpuMemory, op: ReduceOp, x: Operand, axis: number): Buf {
  if (isHalf(x.dtype)) return withFloat32(memory, [x], x.dtype, ([wide]) => reduce(memory, op, wide!, axis));
  const { outer, n, inner } = around(x.shape, axis);
  return reduceMiddle(memory, op, memory.own(x.buf), x.dtype as "float32" | "int32", outer, n, inner);
}

export function argReduce(memory: WebGpuMemory, op: ArgReduceOp, x: Operand, axis: number): Buf {
  if (isHalf(x.dtype)) return withFloat32(memory, [x], "int32", ([wide]) => argReduce(memory, op, wide!, axis));
  const { outer, n, inner } = around(x.shape, axis);
  const from = memory.own(x.buf);
  const y = memory.alloc(outer * inner, "int32");
  const constants = { IS_MIN: Number(op === "min"), IS_INT: Number(x.dtype === "int32") };
  if (inner === 1 && n > 32)
    memory.gpu.run(
      "arg-reduce/rows",
      { x: from, y },
      { rows: outer, n },
      {
        constants: { ...constants, THREADS: threadsFor(n) },
        groups: outer,
      },
    );
  else
    memory.gpu.run("arg-reduce/columns", { x: from, y }, { count: y.count, n, inner }, { constants, threads: y.count });
  return y;
}

export function gather(memory: WebGpuMemory, x: Operand, indices: Operand, axis: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  const [from, at] = [memory.own(x.buf), memory.own(indices.buf)];
  const y = memory.alloc(outer * at.count * inner, x.dtype === "q8_0" ? "float32" : x.dtype);
  const FORMAT = x.dtype === "q8_0" ? 2 : isHalf(x.dtype) ? 1 : 0;
  memory.gpu.run(
    "gather/gather",
    { x: from, indices: at, y },
    { count: y.count, n, inner, picks: at.count, x_count: from.count },
    { constants: { FORMAT }, threads: FORMAT === 1 ? Math.ceil(y.count / 2) : y.count },
  );
  return y;
}

export function scatterAdd(memory: WebGpuMemory, shape: Shape, indices: Operand, updates: Operand, axis: number): Buf {
  if (isHalf(updates.dtype))
    return withFloat32(memory, [updates], updates.dtype, ([wide]) => scatterAdd(memory, shape, indices, wide!, axis));
  const { outer, n, inner } = around(shape, axis);
  const [at, from] = [memory.own(indices.buf), memory.own(updates.buf)];
  const y = memory.alloc(sizeOf(shape), updates.dtype);
  const tiles = Math.ceil(inner / 256);
  const groups = outer * n * tiles;
  memory.gpu.run(
    "scatter-add/scatter-add",
    { indices: at, updates: from, y },
    { groups, n, inner, picks: at.count, tiles },
    { constants: { IS_INT: Number(updates.dtype === "int32") }, groups },
  );
  return y;
}

export function linearScan(memory: WebGpuMemory, a: Operand, b: Operand, axis: number, reverse: boolean): Buf {
  if (isHalf(a.dtype))
    return withFloat32(memory, [a, b], a.dtype, ([u, v]) => linearScan(memory, u!, v!, axis, reverse));
  if (a.dtype !== "float32") throw new DTypeError(`linearScan: not defined on ${a.dtype}`);
  const { gpu } = memory;
  const { outer, n, inner } = around(a.shape, axis);
  const operands = { a: memory.own(a.buf), b: memory.own(b.buf) };
  const y = memory.alloc(outer * n * inner, "float32");
  const columns = outer * inner;
  // Reduce, then scan: what each stretch does to a state is found first, then the states between them, then the result.
  const splits = Math.max(1, Math.min(Math.ceil(PLENTY / Math.max(1, columns)), Math.ceil(n / STRETCH)));
  const stretch = Math.ceil(n / splits);
  const params = { count: columns * splits, n, inner, splits, stretch };
  const IS_REVERSED = Number(reverse);
  const threads = params.count;
  if (splits === 1) {
    gpu.run("linear-scan/scan", { ...operands, carry: undefined, y }, params, {
      constants: { PHASE: 0, IS_REVERSED },
      threads,
    });
    return y;
  }
  const [carry, last] = [memory.alloc(threads, "float32"), memory.alloc(threads, "float32")];
  gpu.run("linear-scan/scan", { ...operands, carry, y: last }, params, {
    constants: { PHASE: 1, IS_REVERSED },
    threads,
  });
  gpu.run("linear-scan/carries", { last, carry }, { count: columns, inner, splits }, { threads: columns });
  gpu.run("linear-scan/scan", { ...operands, carry, y }, params, { constants: { PHASE: 0, IS_REVERSED }, threads });
  memory.free(carry);
  memory.free(last);
  return y;
}
