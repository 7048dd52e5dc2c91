import { ConfigError } from "@mamba-ts/backend";
import { type Checkpoint, type KeyMap, prefixMap, renameSource, type TensorSource } from "@mamba-ts/checkpoint";
import type { Mamba } from "@mamba-ts/mamba";
import {
  detectNaming,
  type Loaded,
  type LoadMambaOptions,
  type LoadOptions,
  loadMambaFrom,
  loadWith,
} from "@mamba-ts/mamba/load";

/** The names of the paper's repository. */
export const mambaByteNames: KeyMap = prefixMap("mambabyte", [
  ["token_embedding", "backbone.embeddings"],
  ["layers", "backbone.layers"],
  ["final_norm", "backbone.norm_f"],
]);

/** The paper's repository's names, state-spaces' or transformers', by the embedding. */
export function detectMambaByteNaming(source: TensorSource): KeyMap {
  return source.has("token_embedding.weight") ? mambaByteNames : detectNaming(source);
}

/**
 * Makes a byte model from either dialect of configuration and any of three namings. LayerNorm or RMSNorm, biases, and whether the head is
 * apart from the embedding follow what the file holds: published configurations do not say. Throws ConfigError for another vocabulary, CheckpointError
 * for tensors that do not fit.
 */
export async function loadMambaByteFrom(json: unknown, file: TensorSource, options: LoadOptions): Promise<Mamba> {
  const source = renameSource(file, detectMambaByteNaming(file));
  const tied = await isTied(source, options.signal);
  const model = await loadMambaFrom(
    { ...(json as object), tie_embeddings: tied, tie_word_embeddings: tied },
    source,
    options,
  );
  const { vocabSize } = model.config;
  if (vocabSize === 256) return model;
  model.dispose();
  throw new ConfigError(`config: a vocabulary of ${vocabSize}; a MambaByte has the 256 bytes`);
}

/** state-spaces' files hold a tied head too: it is tied if it is equal. */
async function isTied(source: TensorSource, signal: AbortSignal | undefined): Promise<boolean> {
  const [head, embedding] = ["lm_head.weight", "backbone.embeddings.weight"] as const;
  if (!source.has(head)) return true;
  if (!source.has(embedding) || source.info(head).dtype !== source.info(embedding).dtype) return false;
  const [a, b] = [await source.bytes(head, signal), await source.bytes(embedding, signal)];
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** Loads a byte model from a folder (Node), a hub repository such as "JunxiongWang/MambaByte_PG19_353M", or an opened checkpoint. */
export function loadMambaByte(from: string | Checkpoint, options: LoadMambaOptions): Promise<Loaded<Mamba>> {
  return loadWith(loadMambaByteFrom, from, options);
}
