import { type Buf, type DType, dtypeLayout, type Operand, type Shape } from "@mamba-ts/backend";
import { sizeOf } from "../runtime/axes.js";
import { decode, encode, operation } from "../runtime/call.js";
import type { WasmMemory } from "../runtime/memory.js";

/** See `Primitives.cast`. Everything but a plain copy goes by way of float32. */
export function cast(memory: WasmMemory, x: Operand, to: DType): Buf {
  return operation(memory, (call) => {
    const n = sizeOf(x.shape);
    const from = call.at(x);
    const y = call.alloc(n, to);
    if (x.dtype === to) memory.engine.copy(y.at, from, y.bytes);
    else if (x.dtype === "float32") encode(call.kernels, to, y.at, from, n);
    else if (to === "float32") decode(call.kernels, x.dtype, y.at, from, n);
    else {
      const wide = call.scratch(n);
      decode(call.kernels, x.dtype, wide, from, n);
      encode(call.kernels, to, y.at, wide, n);
    }
    return y;
  });
}

/** See `Primitives.fill`. */
export function fill(memory: WasmMemory, shape: Shape, value: number, dtype: DType): Buf {
  return operation(memory, (call) => {
    const n = sizeOf(shape);
    const y = call.result(n, dtype);
    const [word] = dtype === "int32" ? Int32Array.of(value) : new Int32Array(Float32Array.of(value).buffer);
    call.kernels.fill32(y.at, n, word!);
    return y.finish();
  });
}

/** Bytes of one element that is moved and not computed with. */
export function wordBytes(dtype: DType): number {
  return dtypeLayout[dtype].bytes;
}
