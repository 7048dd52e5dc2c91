import type { DType } from "@mamba-ts/backend";
import type { Checkpoint, TensorSource, TensorToWrite } from "@mamba-ts/checkpoint";
import { type Loaded, type LoadMambaOptions, type LoadOptions, loadParameters, loadWith } from "@mamba-ts/mamba/load";
import { resolveJambaConfig } from "./config.js";
import { unstackExperts } from "./experts.js";
import { parseJambaConfig } from "./hf-config.js";
import { Jamba } from "./model.js";
import { jambaSource } from "./names.js";

/**
 * Makes a model from transformers' configuration and tensors under any of Jamba's namings. Throws ConfigError, or CheckpointError naming
 * the tensor that is missing, surplus or of the wrong shape.
 */
export async function loadJambaFrom(json: unknown, file: TensorSource, options: LoadOptions): Promise<Jamba> {
  const config = parseJambaConfig(json);
  const source = jambaSource(file, resolveJambaConfig(config).expertLayers);
  const model = new Jamba({ ...config, tieEmbeddings: config.tieEmbeddings === true || !source.has("lm_head.weight") });
  await loadParameters(model, source, options, { unused: model.lmHead === undefined ? ["lm_head.weight"] : [] });
  return model;
}

/**
 * Loads a model and its tokenizer.
 * @param from - a folder (Node), a hub repository such as "ai21labs/Jamba-tiny-dev", or an opened checkpoint
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
