/** Numbers to compute with, whatever the storage format: the one place that decodes and encodes. */
import { type Buf, type DType, DTypeError, type Operand } from "@mamba-ts/backend";
import { decodeBf16, decodeF16, encodeBf16, encodeF16 } from "./half.js";
import { decodeQ8, encodeQ8 } from "./q8.js";
import type { CpuBuf, CpuMemory, Words } from "./storage.js";

/** A buffer's own memory, or a decoded copy of a 16-bit or block format. */
export type Values = Float32Array | Float64Array | Int32Array;
export type Floats = Float32Array | Float64Array;

/** Whether the numbers of this dtype are computed with as they are stored. */
export function isPlain(dtype: DType): boolean {
  return dtype === "float32" || dtype === "float64" || dtype === "int32";
}

/** The numbers of a buffer. */
export function read(memory: CpuMemory, buf: Buf): Values {
  return readRange(memory, buf, 0, buf.count);
}

/** `count` numbers from `start` on; of a block format, whole blocks. */
export function readRange(memory: CpuMemory, buf: Buf, start: number, count: number): Values {
  const { words, dtype } = memory.own(buf);
  if (isPlain(dtype)) {
    const values = words as Values;
    return count === values.length ? values : values.subarray(start, start + count);
  }
  const decoded = new Float32Array(count);
  if (dtype === "bf16") decodeBf16(words as Uint16Array, start, decoded);
  else if (dtype === "f16") decodeF16(words as Uint16Array, start, decoded);
  else decodeQ8(words as Uint8Array, start, decoded);
  return decoded;
}

/** The numbers of a float operand, for kernels. */
export function floats(memory: CpuMemory, operand: Operand): Floats {
  const values = read(memory, operand.buf);
  if (values instanceof Int32Array) throw new DTypeError("cpu: int32 where floating point is needed");
  return values;
}

/** `floats` of an operand that may be absent. */
export function optionalFloats(memory: CpuMemory, operand: Operand | undefined): Floats | undefined {
  return operand === undefined ? undefined : floats(memory, operand);
}

/** One word per element, to be moved and not computed with: the buffer itself, but a decoded copy of a block format. */
export function stored(memory: CpuMemory, buf: Buf): Words {
  return buf.dtype === "q8_0" ? read(memory, buf) : memory.own(buf).words;
}

/** A buffer being written: `values` is its memory, or a stand-in that `finish` encodes. */
export interface Output<V extends Words = Values> {
  readonly values: V;
  finish(): CpuBuf;
}

/** A new buffer of `count` elements of `dtype`; every element of `values` must be written before `finish`. */
export function output(memory: CpuMemory, count: number, dtype: DType): Output {
  const buf = memory.alloc(count, dtype);
  if (isPlain(dtype)) return { values: buf.words as Values, finish: () => buf };
  const values = new Float32Array(count);
  if (memory.options.poison) values.fill(Number.NaN);
  return {
    values,
    finish: () => {
      if (dtype === "bf16") encodeBf16(values, buf.words as Uint16Array);
      else if (dtype === "f16") encodeF16(values, buf.words as Uint16Array);
      else encodeQ8(values, buf.words as Uint8Array);
      return buf;
    },
  };
}

/** `output` of a floating point dtype. */
export function floatOutput(memory: CpuMemory, count: number, dtype: DType): Output<Floats> {
  return output(memory, count, dtype) as Output<Floats>;
}

/** A new buffer holding `values`, converted. */
export function outputOf(memory: CpuMemory, values: Floats, dtype: DType): CpuBuf {
  const out = output(memory, values.length, dtype);
  out.values.set(values);
  return out.finish();
}

/** A new buffer to be written in the words that `stored` gives. */
export function storedOutput(memory: CpuMemory, count: number, dtype: DType): Output<Words> {
  if (dtype === "q8_0") return output(memory, count, dtype);
  const buf = memory.alloc(count, dtype);
  return { values: buf.words, finish: () => buf };
}
