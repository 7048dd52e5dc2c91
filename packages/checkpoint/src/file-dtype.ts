import { CheckpointError, type DType } from "@mamba-ts/backend";

/** Element types of checkpoint files, as safetensors spells them. */
export type FileDType = "F64" | "F32" | "F16" | "BF16" | "I64" | "I32" | "I16" | "I8" | "U8" | "BOOL";

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
};

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
};
const fileDTypes: { readonly [K in Exclude<DType, "q8_0">]: FileDType } = {
  float64: "F64",
  float32: "F32",
  f16: "F16",
  bf16: "BF16",
  int32: "I32",
};

/** The tensor dtype that holds a file dtype's values; all integers become int32. */
export function toTensorDType(dtype: FileDType): DType {
  return tensorDTypes[dtype];
}

/** The file dtype a tensor is written as. Block formats have none. */
export function toFileDType(dtype: DType): FileDType {
  if (dtype === "q8_0")
    throw new CheckpointError("safetensors has no q8_0", { hint: 'cast to "bf16" or "float32" before saving' });
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

export function isFileDType(name: unknown): name is FileDType {
  return typeof name === "string" && Object.hasOwn(fileDTypeBytes, name);
}
