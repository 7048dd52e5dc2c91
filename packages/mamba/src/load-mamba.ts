import { InvalidArgumentError } from "@mamba-ts/backend";
import type { Checkpoint } from "@mamba-ts/checkpoint";
import { type LoadOptions, loadMambaFrom } from "./load-source.js";
import type { Mamba } from "./model.js";
import { jsonTokenizer, type TextTokenizer } from "./tokenizer.js";

export interface LoadMambaOptions extends LoadOptions {
  /** A branch, tag or commit of a hub repository; "main" by default. */
  readonly revision?: string;
  /** Use only what is in the cache. */
  readonly offline?: boolean;
  readonly token?: string;
  readonly cacheDir?: string;
}

export interface LoadedMamba {
  readonly model: Mamba;
  /** From the checkpoint's tokenizer.json; undefined if it has none, as byte-level models do. */
  readonly tokenizer: TextTokenizer | undefined;
}

/**
 * Loads a model and its tokenizer.
 * @param from - a folder (Node), a hub repository such as "state-spaces/mamba-130m-hf", or an opened checkpoint (a page's dropped files)
 */
export async function loadMamba(from: string | Checkpoint, options: LoadMambaOptions): Promise<LoadedMamba> {
  const { config, source, tokenizer } = typeof from === "string" ? await open(from, options) : from;
  try {
    const model = await loadMambaFrom(config, source, options);
    return { model, tokenizer: tokenizer === undefined ? undefined : jsonTokenizer(tokenizer.json, tokenizer.config) };
  } finally {
    if (typeof from === "string") await source.close();
  }
}

async function open(from: string, options: LoadMambaOptions): Promise<Checkpoint> {
  if (from === "") throw new InvalidArgumentError("loadMamba: the model's name is empty");
  const { openCheckpoint, isFolder } = await import("@mamba-ts/checkpoint/node");
  if (/^([./~]|[A-Za-z]:[\\/])/.test(from) || (await isFolder(from))) return openCheckpoint(from);
  if (!/^[\w.-]+\/[\w.-]+$/.test(from))
    throw new InvalidArgumentError(`loadMamba: ${from} is neither a folder nor a hub repository (owner/name)`);
  const { openFromHub } = await import("@mamba-ts/checkpoint/hub");
  return openFromHub(from, options);
}
