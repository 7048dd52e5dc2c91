import type { GgufToWrite } from "../gguf/write.js";
import { safetensorsParts, type TensorToWrite } from "../safetensors.js";
import { atomicWrite } from "./atomic-write.js";

/** Writes a safetensors file atomically, one tensor in memory at a time. */
export async function saveSafetensors(
  path: string,
  tensors: readonly TensorToWrite[],
  { metadata, signal }: { readonly metadata?: Readonly<Record<string, string>>; readonly signal?: AbortSignal } = {},
): Promise<void> {
  await atomicWrite(path, safetensorsParts(tensors, metadata), signal);
}

/** Writes a GGUF file atomically, one tensor in memory at a time. */
export async function saveGguf(
  path: string,
  file: GgufToWrite,
  { signal }: { readonly signal?: AbortSignal } = {},
): Promise<void> {
  const { ggufParts } = await import("../gguf.js");
  await atomicWrite(path, ggufParts(file), signal);
}
