import { type KeyMap, renameSource, type TensorSource } from "@mamba-ts/checkpoint";
import { detectNaming, ggufNames } from "./checkpoint-names.js";
import type { MambaConfig } from "./config.js";
import { fromGguf } from "./gguf.js";
import { parseConfig } from "./hf-config.js";
import { type LoadOptions, loadParameters } from "./load-parameters.js";
import { Mamba } from "./model.js";

/**
 * Makes a model from a configuration (any dialect) and tensors (any naming). Norm, biases and tying follow what the file holds.
 * Throws ConfigError, or CheckpointError naming the tensor that is missing, surplus or of the wrong shape.
 */
export async function loadMambaFrom(json: unknown, file: TensorSource, options: LoadOptions): Promise<Mamba> {
  const { map, source } = underModelNames(file);
  const model = new Mamba(adapt(parseConfig(json), source));
  const unused = model.lmHead === undefined ? ["lm_head.weight"] : [];
  await loadParameters(model, source, options, { toFile: map.toFile, unused });
  return model;
}

function underModelNames(file: TensorSource): { readonly map: KeyMap; readonly source: TensorSource } {
  const map = detectNaming(file);
  return { map, source: map === ggufNames ? fromGguf(file, map) : renameSource(file, map) };
}

/** The configuration that `loadMambaFrom` gives a model. */
export function mambaConfigOf(json: unknown, file: TensorSource): MambaConfig {
  return adapt(parseConfig(json), underModelNames(file).source);
}

/** Published configurations do not always say what the file holds: the tensors decide. */
function adapt(config: MambaConfig, source: TensorSource): MambaConfig {
  const vocabSize = source.has("backbone.embeddings.weight")
    ? (source.info("backbone.embeddings.weight").shape[0] ?? config.vocabSize)
    : config.vocabSize;
  const layer = "backbone.layers.0.";
  return {
    ...config,
    // The vocabulary is padded by some writers and not by others.
    vocabSize: Math.max(vocabSize, config.vocabSize),
    ...(config.nLayer > 0
      ? {
          norm: source.has(`${layer}norm.bias`) ? "layer" : "rms",
          bias: source.has(`${layer}mixer.in_proj.bias`),
          convBias: source.has(`${layer}mixer.conv1d.bias`),
        }
      : {}),
    tieEmbeddings: config.tieEmbeddings !== false || !source.has("lm_head.weight"),
  };
}
