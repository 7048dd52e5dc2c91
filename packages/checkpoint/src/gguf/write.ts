import { buildGgufHeader, type GGUFTypedMetadata, GGUFValueType } from "@huggingface/gguf";
import { CheckpointError } from "@mamba-ts/backend";
import { fileDTypeBytes } from "../file-dtype.js";
import type { TensorToWrite } from "../safetensors.js";
import type { Checkpoint } from "../source.js";
import { tokenizerEntries } from "./tokenizer.js";
import { ggmlTypeOf } from "./types.js";

const ALIGNMENT = 32;
const VERSION = 3;

/** A value of the metadata, with the type it is written as where its own does not say it. */
export type GgufEntry =
  | string
  | boolean
  | { readonly uint32: number }
  | { readonly float32: number }
  | { readonly texts: readonly string[] }
  | { readonly int32s: readonly number[] };
export type GgufEntries = Readonly<Record<string, GgufEntry>>;

/** What a GGUF file is made of. */
export interface GgufToWrite {
  readonly metadata: GgufEntries;
  readonly tensors: readonly TensorToWrite[];
  /** Whose keys are added; for a model that reads bytes `of` is undefined. */
  readonly tokenizer?: { readonly of: Checkpoint["tokenizer"]; readonly vocabSize: number };
}

const { UINT32, INT32, UINT64, FLOAT32, BOOL, STRING, ARRAY } = GGUFValueType;

function typedValue(entry: GgufEntry): { type: GGUFValueType; value: unknown; subType?: GGUFValueType } {
  if (typeof entry === "string") return { type: STRING, value: entry };
  if (typeof entry === "boolean") return { type: BOOL, value: entry };
  if ("uint32" in entry) return { type: UINT32, value: entry.uint32 };
  if ("float32" in entry) return { type: FLOAT32, value: entry.float32 };
  if ("texts" in entry) return { type: ARRAY, subType: STRING, value: entry.texts };
  return { type: ARRAY, subType: INT32, value: entry.int32s };
}

/** The parts of a GGUF file (version 3, little-endian), in order; one tensor in memory at a time. */
export async function* ggufParts({ metadata, tensors, tokenizer }: GgufToWrite): AsyncGenerator<Uint8Array> {
  const sizes = tensors.map(({ dtype, shape }) => shape.reduce((a, b) => a * b, fileDTypeBytes[dtype]));
  const infos = tensorInfos(tensors, sizes);
  const entries = Object.entries({
    ...metadata,
    ...(tokenizer && tokenizerEntries(tokenizer.of, tokenizer.vocabSize)),
  });
  const typed = {
    version: { type: UINT32, value: VERSION },
    tensor_count: { type: UINT64, value: BigInt(tensors.length) },
    kv_count: { type: UINT64, value: BigInt(entries.length) },
    ...Object.fromEntries(entries.map(([key, entry]) => [key, typedValue(entry)])),
  } as unknown as GGUFTypedMetadata;
  const header = await buildGgufHeader(new Blob([infos]), typed, {
    littleEndian: true,
    tensorInfoByteRange: [0, infos.length],
    alignment: ALIGNMENT,
  });
  yield new Uint8Array(await header.arrayBuffer());
  for (const [i, tensor] of tensors.entries()) {
    const bytes = await tensor.bytes();
    if (bytes.byteLength !== sizes[i])
      throw new CheckpointError(
        `saving: tensor ${tensor.name} has ${bytes.byteLength} bytes, its shape says ${sizes[i]}`,
      );
    yield bytes;
    yield new Uint8Array(aligned(bytes.length) - bytes.length);
  }
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/** Name, axes (innermost first), type and place of every tensor. */
function tensorInfos(tensors: readonly TensorToWrite[], sizes: readonly number[]): Uint8Array<ArrayBuffer> {
  const names = tensors.map(({ name }) => new TextEncoder().encode(name));
  const total = tensors.reduce((n, { shape }, i) => n + 8 + names[i]!.length + 4 + 8 * shape.length + 4 + 8, 0);
  const out = new Uint8Array(total);
  const view = new DataView(out.buffer);
  const seen = new Set<string>();
  let [at, offset] = [0, 0];
  const u32 = (n: number): void => {
    view.setUint32(at, n, true);
    at += 4;
  };
  const u64 = (n: number): void => {
    view.setBigUint64(at, BigInt(n), true);
    at += 8;
  };
  for (const [i, { name, dtype, shape }] of tensors.entries()) {
    if (seen.has(name)) throw new CheckpointError(`saving: two tensors are named ${name}`);
    seen.add(name);
    if (dtype === "Q8_0" && shape.at(-1)! % 32 !== 0)
      throw new CheckpointError(`saving: tensor ${name} [${shape.join(", ")}] is no whole number of blocks`);
    u64(names[i]!.length);
    out.set(names[i]!, at);
    at += names[i]!.length;
    u32(shape.length);
    for (const n of [...shape].reverse()) u64(n);
    u32(ggmlTypeOf(name, dtype));
    u64(offset);
    offset += aligned(sizes[i]!);
  }
  return out;
}
