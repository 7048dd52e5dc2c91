import { type ArgReduceOp, type Buf, DTypeError, type Operand, type ReduceOp, type Shape } from "@mamba-ts/backend";
import { around, sizeOf } from "../runtime/axes.js";
import { operation } from "../runtime/call.js";
import type { WasmMemory } from "../runtime/memory.js";

/** See `Primitives.reduce`. */
export function reduce(memory: WasmMemory, op: ReduceOp, x: Operand, axis: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  return operation(memory, (call) => {
    const from = call.numbers(x);
    const y = call.result(outer * inner, x.dtype);
    const { kernels } = call;
    const [sum, max] =
      x.dtype === "int32" ? [kernels.reduce_sum_int, kernels.reduce_max_int] : [kernels.reduce_sum, kernels.reduce_max];
    (op === "sum" ? sum : max)(y.at, from, outer, n, inner);
    return y.finish();
  });
}

/** See `Primitives.argReduce`. */
export function argReduce(memory: WasmMemory, op: ArgReduceOp, x: Operand, axis: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  return operation(memory, (call) => {
    const from = call.numbers(x);
    const y = call.alloc(outer * inner, "int32");
    const kernel = x.dtype === "int32" ? call.kernels.arg_reduce_int : call.kernels.arg_reduce;
    kernel(y.at, from, outer, n, inner, op === "max" ? 1 : 0);
    return y;
  });
}

/** See `Primitives.gather`. Rows are moved as they are stored; block formats come out as float32. */
export function gather(memory: WasmMemory, x: Operand, indices: Operand, axis: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  const count = sizeOf(indices.shape);
  return operation(memory, (call) => {
    const ids = call.at(indices);
    const wholeBlocks = x.dtype === "q8_0" && inner % 32 === 0;
    const narrow = x.dtype === "bf16" || x.dtype === "f16";
    const from = wholeBlocks || narrow ? call.at(x) : call.numbers(x);
    const y = call.alloc(outer * count * inner, x.dtype === "q8_0" ? "float32" : x.dtype);
    const { gather_q8, gather16, gather32 } = call.kernels;
    (wholeBlocks ? gather_q8 : narrow ? gather16 : gather32)(y.at, from, outer, n, inner, ids, count);
    return y;
  });
}

/** See `Primitives.scatterAdd`. */
export function scatterAdd(memory: WasmMemory, shape: Shape, indices: Operand, updates: Operand, axis: number): Buf {
  const { outer, n, inner } = around(shape, axis);
  return operation(memory, (call) => {
    const [ids, from] = [call.at(indices), call.numbers(updates)];
    const y = call.result(sizeOf(shape), updates.dtype);
    const kernel = updates.dtype === "int32" ? call.kernels.scatter_add_int : call.kernels.scatter_add;
    kernel(y.at, from, outer, n, inner, ids, sizeOf(indices.shape));
    return y.finish();
  });
}

/** See `Primitives.linearScan`. */
export function linearScan(memory: WasmMemory, a: Operand, b: Operand, axis: number, reverse: boolean): Buf {
  if (a.dtype === "int32") throw new DTypeError("wasm: linearScan of int32", { hint: "cast to float32 first" });
  const { outer, n, inner } = around(a.shape, axis);
  return operation(memory, (call) => {
    const [p, q] = [call.numbers(a), call.numbers(b)];
    const h = call.result(outer * n * inner, a.dtype);
    call.kernels.linear_scan(h.at, p, q, outer, n, inner, reverse ? 1 : 0);
    return h.finish();
  });
}
