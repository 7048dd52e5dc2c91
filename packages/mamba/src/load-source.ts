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
  const rows = source.has("backbone.embeddings.weight")
    ? source.info("backbone.embeddings.weight").shape[0]
    : undefined;
  const layer = "backbone.layers.0.";
  return {
    ...config,
    vocabSize: rows !== undefined && isPadded(rows, config.vocabSize) ? rows : config.vocabSize,
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

/** The vocabulary is padded to a multiple of a power of two by some writers and not by others. */
function isPadded(rows: number, vocabSize: number): boolean {
  return [8, 16, 32, 64, 128, 256].some((multiple) => rows === Math.ceil(vocabSize / multiple) * multiple);
}
