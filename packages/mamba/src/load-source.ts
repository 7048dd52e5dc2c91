import { type Backend, CheckpointError, type DType } from "@mamba-ts/backend";
import { readTensor, renameSource, type TensorSource } from "@mamba-ts/checkpoint";
import { sameShape } from "@mamba-ts/tensor";
import { detectNaming } from "./checkpoint-names.js";
import type { MambaConfig } from "./config.js";
import { parseConfig } from "./hf-config.js";
import { Mamba } from "./model.js";

export interface LoadProgress {
  readonly tensor: string;
  readonly loadedTensors: number;
  readonly totalTensors: number;
}

export interface LoadOptions {
  readonly backend: Backend;
  /** dtype of the weights; float32 by default. A_log, D, norms and the step's bias stay in float32. */
  readonly dtype?: DType;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: LoadProgress) => void;
}

/**
 * Makes a model from a configuration (either dialect) and tensors (either naming). Norm, biases and tying follow what the file holds.
 * Throws ConfigError, or CheckpointError naming the tensor that is missing, surplus or of the wrong shape.
 */
export async function loadMambaFrom(
  json: unknown,
  file: TensorSource,
  { backend, dtype = "float32", signal, onProgress }: LoadOptions,
): Promise<Mamba> {
  const map = detectNaming(file);
  const source = renameSource(file, map);
  const model = new Mamba(adapt(parseConfig(json), source));
  const named = [...model.namedParameters()];
  const tiedHead = model.lmHead === undefined ? ["lm_head.weight"] : [];
  const wanted = new Set([...named.map(([name]) => name), ...tiedHead]);
  for (const [name, { shape }] of named) {
    if (!source.has(name)) throw new CheckpointError(`checkpoint: tensor ${map.toFile(name)} is missing`);
    const info = source.info(name);
    if (!sameShape(info.shape, shape))
      throw new CheckpointError(
        `${info.file}: tensor ${map.toFile(name)} is [${info.shape.join(", ")}], the config makes it [${shape.join(", ")}]`,
      );
    if (/^(I|U|BOOL)/.test(info.dtype))
      throw new CheckpointError(`${info.file}: tensor ${map.toFile(name)} is ${info.dtype}, not floating point`);
  }
  for (const name of source.names)
    if (!wanted.has(name))
      throw new CheckpointError(
        `${source.info(name).file}: tensor ${map.toFile(name)} belongs to nothing in this model`,
      );
  try {
    for (const [i, [name, parameter]] of named.entries()) {
      signal?.throwIfAborted();
      parameter.value = await readTensor(source, name, backend, { dtype: parameter.dtypeIn(dtype), signal });
      onProgress?.({ tensor: name, loadedTensors: i + 1, totalTensors: named.length });
    }
  } catch (error) {
    model.dispose();
    throw error;
  }
  return model;
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
