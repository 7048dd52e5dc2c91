import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { CheckpointError } from "@mamba-ts/backend";
import { openSharded } from "../sharded.js";
import type { Checkpoint, TensorSource } from "../source.js";
import { openFile } from "./file-reader.js";
import { openSafetensorsFile } from "./open-file.js";

/** Parses a JSON file; throws CheckpointError naming it. */
export async function readJson(path: string): Promise<unknown> {
  const bytes = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
    throw new CheckpointError(
      cause.code === "ENOENT" ? `${path} does not exist` : `${path} cannot be read: ${cause.message}`,
      { cause },
    );
  });
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new CheckpointError(`${path} is not JSON: ${(cause as Error).message}`, { cause });
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/**
 * Opens a .gguf file, or a folder with `config.json` and `model.safetensors`, `model.safetensors.index.json` or `pytorch_model.bin`.
 * Throws CheckpointError naming what is missing or damaged.
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  if (!(await exists(path))) throw new CheckpointError(`${path} does not exist`);
  if (path.endsWith(".gguf") && !(await isFolder(path))) {
    const { openGguf } = await import("../gguf.js");
    return openFile(path, openGguf);
  }
  const at = (file: string): string => join(path, file);
  const config = await readJson(at("config.json"));
  const tokenizer = (await exists(at("tokenizer.json")))
    ? {
        json: await readJson(at("tokenizer.json")),
        config: (await exists(at("tokenizer_config.json"))) ? await readJson(at("tokenizer_config.json")) : {},
      }
    : undefined;
  // Last, for it stays open.
  return { config, source: await openWeights(path, at), tokenizer };
}

async function openWeights(path: string, at: (file: string) => string): Promise<TensorSource> {
  const open = (file: string): Promise<TensorSource> => openSafetensorsFile(at(file));
  if (await exists(at("model.safetensors"))) return open("model.safetensors");
  const index = "model.safetensors.index.json";
  if (await exists(at(index))) return openSharded(at(index), await readJson(at(index)), open);
  if (await exists(at("pytorch_model.bin"))) {
    const { openPytorch } = await import("../pytorch.js");
    return openFile(at("pytorch_model.bin"), openPytorch);
  }
  throw new CheckpointError(`${path} holds no model.safetensors, ${index} or pytorch_model.bin`);
}

/** Whether there is a folder of this name; false where nothing is, or a file. */
export async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (s) => s.isDirectory(),
    () => false,
  );
}
