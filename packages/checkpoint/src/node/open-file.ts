import { openSafetensors } from "../safetensors.js";
import type { TensorSource } from "../source.js";
import { fileReader } from "./file-reader.js";

/** Opens a safetensors file; it stays open until the source is closed. Throws CheckpointError naming the file. */
export async function openSafetensorsFile(path: string): Promise<TensorSource> {
  const reader = await fileReader(path);
  return openSafetensors(reader).catch(async (error: unknown) => {
    await reader.close();
    throw error;
  });
}
