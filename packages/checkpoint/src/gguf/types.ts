/** Tensor types of GGUF by number: ggml_type in ggml.h. */
import { CheckpointError } from "@mamba-ts/backend";
import type { FileDType } from "../file-dtype.js";

/** How a type lies in a file: every `elements` consecutive elements of a row take `bytes` bytes. */
export interface GgmlType {
  readonly name: string;
  readonly elements: number;
  readonly bytes: number;
  /** The dtype it is handed on in: its own, or F32 where it is decoded. */
  readonly dtype: FileDType;
}

const type = (name: string, elements: number, bytes: number, dtype: FileDType): GgmlType => ({
  ...{ name, elements, bytes, dtype },
});

const types: { readonly [id: number]: GgmlType } = {
  0: type("F32", 1, 4, "F32"),
  1: type("F16", 1, 2, "F16"),
  2: type("Q4_0", 32, 18, "F32"),
  8: type("Q8_0", 32, 34, "Q8_0"),
  12: type("Q4_K", 256, 144, "F32"),
  14: type("Q6_K", 256, 210, "F32"),
  24: type("I8", 1, 1, "I8"),
  25: type("I16", 1, 2, "I16"),
  26: type("I32", 1, 4, "I32"),
  27: type("I64", 1, 8, "I64"),
  28: type("F64", 1, 8, "F64"),
  30: type("BF16", 1, 2, "BF16"),
};

/** Throws CheckpointError for a type that is not read here. */
export function ggmlType(file: string, tensor: string, id: number): GgmlType {
  const found = Object.hasOwn(types, id) ? types[id] : undefined;
  if (found !== undefined) return found;
  const known = Object.values(types).map(({ name }) => name);
  throw new CheckpointError(`${file}: tensor ${tensor} has the type of number ${id}, which is not read here`, {
    hint: `these are: ${known.join(", ")}; llama.cpp's llama-quantize converts`,
  });
}

/** The number of the type that a dtype is written as. Throws CheckpointError for one that GGUF has not. */
export function ggmlTypeOf(tensor: string, dtype: FileDType): number {
  for (const [id, { name }] of Object.entries(types)) if (name === dtype) return Number(id);
  throw new CheckpointError(`saving: tensor ${tensor} is ${dtype}, which GGUF has not`);
}
