import { CheckpointError, type DType } from "@mamba-ts/backend";

/** Element types of checkpoint files, as safetensors spells them; Q8_0 as GGUF does: blocks of 32, see `BlockDType`. */
export type FileDType = "F64" | "F32" | "F16" | "BF16" | "I64" | "I32" | "I16" | "I8" | "U8" | "BOOL" | "Q8_0";

/** Bytes of an element; of Q8_0 the share of its block. */
export const fileDTypeBytes: { readonly [K in FileDType]: number } = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
  Q8_0: 34 / 32,
};

/** Whether a file's elements are whole numbers, truth values included. */
export function isInteger(dtype: FileDType): boolean {
  return tensorDTypes[dtype] === "int32";
}

const tensorDTypes: { readonly [K in FileDType]: DType } = {
  F64: "float64",
  F32: "float32",
  F16: "f16",
  BF16: "bf16",
  I64: "int32",
  I32: "int32",
  I16: "int32",
  I8: "int32",
  U8: "int32",
  BOOL: "int32",
  Q8_0: "q8_0",
};
const fileDTypes: { readonly [K in DType]: FileDType } = {
  float64: "F64",
  float32: "F32",
  f16: "F16",
  bf16: "BF16",
  int32: "I32",
  q8_0: "Q8_0",
};

/** The tensor dtype that holds a file dtype's values; all integers become int32. */
export function toTensorDType(dtype: FileDType): DType {
  return tensorDTypes[dtype];
}

/** The file dtype a tensor is written as. */
export function toFileDType(dtype: DType): FileDType {
  return fileDTypes[dtype];
}

/** The bytes of `count` elements as the tensor dtype's own little-endian bytes; integers are converted to int32. */
export function toTensorBytes(name: string, dtype: FileDType, bytes: Uint8Array): Uint8Array {
  const tensorDType = tensorDTypes[dtype];
  if (tensorDType !== "int32" || dtype === "I32") return bytes;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = fileDTypeBytes[dtype];
  const out = new Int32Array(bytes.byteLength / size);
  for (let i = 0; i < out.length; i++) out[i] = integerAt(name, view, dtype, i, size);
  return new Uint8Array(out.buffer);
}

function integerAt(name: string, view: DataView, dtype: FileDType, i: number, size: number): number {
  switch (dtype) {
    case "I64": {
      const value = view.getBigInt64(i * size, true);
      if (value < -2147483648n || value > 2147483647n)
        throw new CheckpointError(`tensor ${name}: element ${i} is ${value}, which no int32 holds`);
      return Number(value);
    }
    case "I16":
      return view.getInt16(i * size, true);
    case "I8":
      return view.getInt8(i);
    default:
      return view.getUint8(i);
  }
}

/** Whether a format spells a dtype so; blocks are no dtype of safetensors'. */
export function isFileDType(name: unknown): name is Exclude<FileDType, "Q8_0"> {
  return typeof name === "string" && name !== "Q8_0" && Object.hasOwn(fileDTypeBytes, name);
}
