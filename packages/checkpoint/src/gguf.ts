/**
 * GGUF, llama.cpp's file format: read by range, written in parts. Names of tensors and keys stay the file's; a model's own package
 * translates them, as it does those of safetensors.
 */
import { openGgufFile } from "./gguf/read.js";
import { tokenizerOf } from "./gguf/tokenizer.js";
import type { ByteReader } from "./reader.js";
import type { Checkpoint } from "./source.js";

export { type Gguf, type GgufMetadata, type GgufValue, openGgufFile } from "./gguf/read.js";
export { type GgufEntries, type GgufEntry, type GgufToWrite, ggufParts } from "./gguf/write.js";

/**
 * A GGUF file as a checkpoint: its metadata is the configuration. Weights in F32, F16, BF16 and Q8_0 come as they are; Q4_0, Q4_K and
 * Q6_K are decoded. Throws CheckpointError naming the file and what is wrong with it.
 */
export async function openGguf(reader: ByteReader, signal?: AbortSignal): Promise<Checkpoint> {
  const { metadata, source } = await openGgufFile(reader, signal);
  return { config: metadata, source, tokenizer: tokenizerOf(reader.name, metadata) };
}
