import type { DType } from "@mamba-ts/backend";
import { type Checkpoint, renameSource, type TensorSource, type TensorToWrite } from "@mamba-ts/checkpoint";
import {
  fromGgufValues,
  type Loaded,
  type LoadMambaOptions,
  type LoadOptions,
  loadParameters,
  loadWith,
} from "@mamba-ts/mamba/load";
import { type JambaConfig, resolveJambaConfig } from "./config.js";
import { unstackExperts } from "./experts.js";
import { isJambaGguf, jambaConfigOfGguf, jambaGgufNames } from "./gguf.js";
import { parseJambaConfig } from "./hf-config.js";
import { Jamba } from "./model.js";
import { jambaSource } from "./names.js";

/**
 * Makes a model from a configuration (transformers' or a GGUF file's) and tensors under any of Jamba's namings. Throws ConfigError, or CheckpointError naming
 * the tensor that is missing, surplus or of the wrong shape.
 */
export async function loadJambaFrom(json: unknown, file: TensorSource, options: LoadOptions): Promise<Jamba> {
  const config = jambaConfigOf(json, file);
  const isGguf = isJambaGguf(json);
  const source = isGguf
    ? fromGgufValues(renameSource(file, jambaGgufNames), jambaGgufNames)
    : jambaSource(file, resolveJambaConfig(config).expertLayers);
  const model = new Jamba({ ...config, tieEmbeddings: config.tieEmbeddings === true || !source.has("lm_head.weight") });
  await loadParameters(model, source, options, {
    unused: model.lmHead === undefined ? ["lm_head.weight"] : [],
    ...(isGguf ? { toFile: jambaGgufNames.toFile } : {}),
  });
  return model;
}

/** The configuration of a checkpoint: transformers' `config.json`, or the keys of a GGUF file with its tensors. Throws ConfigError. */
export function jambaConfigOf(json: unknown, file: TensorSource): JambaConfig {
  return isJambaGguf(json) ? jambaConfigOfGguf(json, file) : parseJambaConfig(json);
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
