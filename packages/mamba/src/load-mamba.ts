import { InvalidArgumentError } from "@mamba-ts/backend";
import type { Checkpoint, TensorSource } from "@mamba-ts/checkpoint";
import type { LoadOptions } from "./load-parameters.js";
import { loadMambaFrom } from "./load-source.js";
import type { Mamba } from "./model.js";
import { jsonTokenizer, type TextTokenizer } from "./tokenizer.js";

/** Where and how to load a checkpoint. */
export interface LoadMambaOptions extends LoadOptions {
  /** A branch, tag or commit of a hub repository; "main" by default. */
  readonly revision?: string;
  /** Use only what is in the cache. */
  readonly offline?: boolean;
  readonly token?: string;
  readonly cacheDir?: string;
}

export interface Loaded<M> {
  readonly model: M;
  /** From the checkpoint's tokenizer.json; undefined if it has none, as byte-level models do. */
  readonly tokenizer: TextTokenizer | undefined;
}
export type LoadedMamba = Loaded<Mamba>;

/**
 * Loads a model and its tokenizer.
 * @param from - a folder or a .gguf file (Node), a hub repository such as "state-spaces/mamba-130m-hf", or an opened checkpoint (a page's dropped files)
 */
export function loadMamba(from: string | Checkpoint, options: LoadMambaOptions): Promise<LoadedMamba> {
  return loadWith(loadMambaFrom, from, options);
}

/** `loadMamba` for any model: `load` makes it from a configuration and tensors. */
export async function loadWith<M>(
  load: (json: unknown, source: TensorSource, options: LoadOptions) => Promise<M>,
  from: string | Checkpoint,
  options: LoadMambaOptions,
): Promise<Loaded<M>> {
  const { config, source, tokenizer } = typeof from === "string" ? await open(from, options) : from;
  try {
    const model = await load(config, source, options);
    return { model, tokenizer: tokenizer === undefined ? undefined : jsonTokenizer(tokenizer.json, tokenizer.config) };
  } finally {
    if (typeof from === "string") await source.close();
  }
}

async function open(from: string, options: LoadMambaOptions): Promise<Checkpoint> {
  if (from === "") throw new InvalidArgumentError("load: the model's name is empty");
  const { openCheckpoint, isFolder } = await import("@mamba-ts/checkpoint/node");
  if (/^([./~]|[A-Za-z]:[\\/])|\.gguf$/.test(from) || (await isFolder(from))) return openCheckpoint(from);
  if (!/^[\w.-]+\/[\w.-]+$/.test(from))
    throw new InvalidArgumentError(
      `load: ${from} is neither a folder, nor a .gguf file, nor a hub repository (owner/name)`,
    );
  const { openFromHub } = await import("@mamba-ts/checkpoint/hub");
  return openFromHub(from, options);
}
