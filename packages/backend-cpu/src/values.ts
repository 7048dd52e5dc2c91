import { type Buf, type DType, DTypeError, type Operand } from "@mamba-ts/backend";
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from "./half.js";
import { decodeQ8, encodeQ8 } from "./q8.js";
import type { CpuBuf, CpuMemory } from "./storage.js";

/** Numbers to compute with: the buffer itself, or a decoded copy of a 16-bit or block format. */
export type Values = Float32Array | Float64Array | Int32Array;

/** The numbers of a buffer. */
export function read(memory: CpuMemory, buf: Buf): Values {
  const own = memory.own(buf);
  switch (own.dtype) {
    case "float32":
    case "float64":
    case "int32":
      return own.words as Values;
    case "bf16":
      return Float32Array.from(own.words as Uint16Array, bf16ToNumber);
    case "f16":
      return Float32Array.from(own.words as Uint16Array, f16ToNumber);
    case "q8_0":
      return decodeQ8(own.words as Uint8Array);
  }
}

/** The numbers of a float operand, for kernels. */
export function floats(memory: CpuMemory, operand: Operand): Float32Array | Float64Array {
  const values = read(memory, operand.buf);
  if (values instanceof Int32Array) throw new DTypeError("cpu: int32 where floating point is needed");
  return values;
}

/** A buffer being written: `values` is its memory, or a stand-in that `finish` encodes. */
export interface Output {
  readonly values: Values;
  finish(): CpuBuf;
}

/** A new buffer of `count` elements of `dtype`; every element of `values` must be written before `finish`. */
export function output(memory: CpuMemory, count: number, dtype: DType): Output {
  const buf = memory.alloc(count, dtype);
  if (dtype === "float32" || dtype === "float64" || dtype === "int32")
    return { values: buf.words as Values, finish: () => buf };
  const values = new Float32Array(count);
  return {
    values,
    finish: () => {
      if (dtype === "q8_0") encodeQ8(values, buf.words as Uint8Array);
      else {
        const encode = dtype === "bf16" ? numberToBf16 : numberToF16;
        for (let i = 0; i < count; i++) buf.words[i] = encode(values[i]!);
      }
      return buf;
    },
  };
}
