import { openSafetensors } from "../safetensors.js";
import type { TensorSource } from "../source.js";
import { openFile } from "./file-reader.js";

/** Opens a safetensors file; it stays open until the source is closed. Throws CheckpointError naming the file. */
export async function openSafetensorsFile(path: string): Promise<TensorSource> {
  return openFile(path, openSafetensors);
}
