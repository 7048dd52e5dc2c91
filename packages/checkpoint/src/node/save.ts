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
