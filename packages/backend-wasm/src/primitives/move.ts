/** Operations that only move elements. They move them as stored: a zero is all zero bits in every format. */
import { type Buf, type DType, DTypeError, dtypeLayout, type Operand, type StridedView } from "@mamba-ts/backend";
import { around, mergeAxes, sizeOf, stridesOf } from "../runtime/axes.js";
import { type Call, operation } from "../runtime/call.js";
import type { WasmMemory } from "../runtime/memory.js";

/** Copies between two strided layouts of elements of this dtype; addresses are those of the first elements. */
export function move(
  { kernels, memory }: Call,
  dtype: DType,
  shape: readonly number[],
  to: number,
  toStrides: readonly number[],
  from: number,
  fromStrides: readonly number[],
): void {
  if (sizeOf(shape) === 0) return;
  const { rank, spec } = mergeAxes(shape, [fromStrides, toStrides]);
  const kernel = dtypeLayout[dtype].bytes === 2 ? kernels.copy16 : kernels.copy32;
  kernel(to, from, rank, memory.words(spec));
}

/** Block formats are weights: their elements cannot be moved one by one. */
function refuseBlocks(what: string, dtype: DType): void {
  if (dtype === "q8_0") throw new DTypeError(`wasm: ${what} of q8_0`, { hint: "cast to float32 first" });
}

/** See `Primitives.copy`. A block format can be copied whole. */
export function copy(memory: WasmMemory, { buf, offset, shape, strides, dtype }: StridedView): Buf {
  return operation(memory, (call) => {
    const from = memory.own(buf);
    const y = call.alloc(sizeOf(shape), dtype);
    const isDense = stridesOf(shape).every((stride, d) => shape[d] === 1 || strides[d] === stride);
    if (dtype === "q8_0") {
      if (!isDense || offset % 32 !== 0) refuseBlocks("a strided view", dtype);
      const start = from.at + (offset / 32) * 34;
      memory.engine.copy(y.at, start, y.bytes);
    } else move(call, dtype, shape, y.at, stridesOf(shape), from.at + offset * dtypeLayout[dtype].bytes, strides);
    return y;
  });
}

/** See `Primitives.pad`. */
export function pad(memory: WasmMemory, x: Operand, axis: number, before: number, after: number): Buf {
  refuseBlocks("pad", x.dtype);
  const { outer, n, inner } = around(x.shape, axis);
  const length = n + before + after;
  const word = dtypeLayout[x.dtype].bytes;
  return operation(memory, (call) => {
    const from = call.at(x);
    const y = call.alloc(outer * length * inner, x.dtype);
    const first = Math.max(0, -before);
    const last = Math.min(n, length - before);
    if (before > 0 || after > 0) memory.engine.fill(y.at, y.bytes, 0);
    if (last > first)
      move(
        call,
        x.dtype,
        [outer, (last - first) * inner],
        y.at + (first + before) * inner * word,
        [length * inner, 1],
        from + first * inner * word,
        [n * inner, 1],
      );
    return y;
  });
}

/** See `Primitives.concat`. */
export function concat(memory: WasmMemory, xs: readonly Operand[], axis: number): Buf {
  const { dtype, shape } = xs[0]!;
  refuseBlocks("concat", dtype);
  const { outer, inner } = around(shape, axis);
  const total = xs.reduce((n, x) => n + x.shape[axis]!, 0) * inner;
  const word = dtypeLayout[dtype].bytes;
  return operation(memory, (call) => {
    const from = xs.map((x) => call.at(x));
    const y = call.alloc(outer * total, dtype);
    let start = 0;
    for (const [i, x] of xs.entries()) {
      const run = x.shape[axis]! * inner;
      move(call, dtype, [outer, run], y.at + start * word, [total, 1], from[i]!, [run, 1]);
      start += run;
    }
    return y;
  });
}
