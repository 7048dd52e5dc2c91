import { CheckpointError } from "@mamba-ts/backend";
import { combineSources, type TensorSource } from "./source.js";

/**
 * Opens a checkpoint that is spread over files, by its `model.safetensors.index.json`.
 * @param index - the parsed index  @param open - opens one file of the checkpoint's folder by its name
 */
export async function openSharded(
  indexName: string,
  index: unknown,
  open: (file: string) => Promise<TensorSource>,
): Promise<TensorSource> {
  const map = (index as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== "object" || map === null) throw new CheckpointError(`${indexName}: there is no weight_map`);
  const files = new Map<string, string[]>();
  for (const [tensor, file] of Object.entries(map)) {
    if (typeof file !== "string" || !isPlainName(file))
      throw new CheckpointError(
        `${indexName}: tensor ${tensor} is said to be in ${JSON.stringify(file)}, which is no file of this folder`,
      );
    files.set(file, [...(files.get(file) ?? []), tensor]);
  }
  const opened: TensorSource[] = [];
  try {
    for (const [file, tensors] of files) {
      const source = await open(file).catch((cause: unknown) => {
        throw new CheckpointError(
          `${indexName}: shard ${file} cannot be opened: ${cause instanceof Error ? cause.message : String(cause)}`,
          { cause },
        );
      });
      opened.push(source);
      const absent = tensors.find((name) => !source.has(name));
      if (absent !== undefined) throw new CheckpointError(`${indexName}: tensor ${absent} is not in ${file}`);
    }
    return combineSources(opened);
  } catch (error) {
    await Promise.all(opened.map((source) => source.close()));
    throw error;
  }
}

/** A name within the folder: no separators, no drive, no parent. */
function isPlainName(file: string): boolean {
  return file.length > 0 && !/[/\\:\0]/.test(file) && file !== "." && file !== "..";
}
