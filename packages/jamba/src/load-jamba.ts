import type { DType } from "@mamba-ts/backend";
import type { Checkpoint, TensorSource, TensorToWrite } from "@mamba-ts/checkpoint";
import {
  fromGguf,
  type Loaded,
  type LoadMambaOptions,
  type LoadOptions,
  loadParameters,
  loadWith,
} from "@mamba-ts/mamba/load";
import { type JambaConfig, resolveJambaConfig } from "./config.js";
import { unstackExperts } from "./experts.js";
import { ggufNames, isGguf, parseGgufConfig } from "./gguf.js";
import { parseJambaConfig } from "./hf-config.js";
import { Jamba } from "./model.js";
import { jambaSource } from "./names.js";

/**
 * Makes a model from transformers' configuration, or a GGUF file's, and tensors under any of Jamba's namings. Throws ConfigError, or CheckpointError naming
 * the tensor that is missing, surplus or of the wrong shape.
 */
export async function loadJambaFrom(json: unknown, file: TensorSource, options: LoadOptions): Promise<Jamba> {
  const config = jambaConfigOf(json, file);
  const source = isGguf(file) ? fromGguf(file, ggufNames) : jambaSource(file, resolveJambaConfig(config).expertLayers);
  const model = new Jamba({ ...config, tieEmbeddings: config.tieEmbeddings === true || !source.has("lm_head.weight") });
  await loadParameters(model, source, options, { unused: model.lmHead === undefined ? ["lm_head.weight"] : [] });
  return model;
}

/** What a checkpoint's configuration says: transformers', or the keys of a GGUF file. */
export function jambaConfigOf(json: unknown, file: TensorSource): JambaConfig {
  return isGguf(file) ? parseGgufConfig(json as Readonly<Record<string, unknown>>, file) : parseJambaConfig(json);
}

/**
 * Loads a model and its tokenizer.
 * @param from - a folder or a .gguf file (Node), a hub repository such as "ai21labs/Jamba-tiny-dev", or an opened checkpoint
 */
export function loadJamba(from: string | Checkpoint, options: LoadMambaOptions): Promise<Loaded<Jamba>> {
  return loadWith(loadJambaFrom, from, options);
}

/** A model's tensors, ready for a safetensors file, under transformers' names. A_log, D, norms and the step's bias stay in float32. */
export function jambaTensors(model: Jamba, { dtype }: { readonly dtype?: DType } = {}): TensorToWrite[] {
  return [...model.namedParameters()].flatMap(([name, parameter]) =>
    unstackExperts(name, parameter.value, dtype === undefined ? parameter.value.dtype : parameter.dtypeIn(dtype)),
  );
}
