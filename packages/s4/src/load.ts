import { type Backend, CheckpointError, UnsupportedError } from "@mamba-ts/backend";
import type { TensorSource, TensorToWrite } from "@mamba-ts/checkpoint";
import type { Module } from "@mamba-ts/nn";
import {
  detectDialect,
  parametersToWrite,
  readKernelLength,
  readParameter,
  type S4Dialect,
} from "./checkpoint-names.js";
import type { S4Config, S4LayerConfig } from "./config.js";
import { resolveLayerConfig } from "./config.js";
import { S4Layer } from "./layer.js";
import { S4Model } from "./model.js";

export { detectDialect, type S4Dialect } from "./checkpoint-names.js";

export interface LoadS4Options {
  readonly backend: Backend;
  readonly dtype?: "float32" | "float64";
  /** Found from the names by default. */
  readonly dialect?: S4Dialect;
}

/**
 * A model from a file of state-spaces/s4's names, in either dialect, as its example has them: `encoder`, `s4_layers.N`, `norms.N`,
 * `decoder`. Throws CheckpointError naming the tensor that is missing, surplus or of the wrong shape.
 */
export async function loadS4From(config: S4Config, source: TensorSource, options: LoadS4Options): Promise<S4Model> {
  const model = new S4Model(config);
  await loadInto(
    model,
    source,
    "",
    options,
    [...model.s4Layers.entries()].map(([i, layer]) => [`s4_layers.${i}.`, layer]),
  );
  return model;
}

/** One layer, `prefix` before all its names. */
export async function loadS4Layer(
  config: S4LayerConfig,
  source: TensorSource,
  { prefix = "", ...options }: LoadS4Options & { readonly prefix?: string },
): Promise<S4Layer> {
  const layer = new S4Layer(resolveLayerConfig(config));
  await loadInto(layer, source, prefix, options, [["", layer]]);
  return layer;
}

async function loadInto(
  module: Module,
  source: TensorSource,
  prefix: string,
  { backend, dtype = "float32", dialect = detectDialect(source) }: LoadS4Options,
  layers: readonly (readonly [string, S4Layer])[],
): Promise<void> {
  const used = new Set<string>();
  try {
    for (const [name, parameter] of module.namedParameters()) {
      const { value, fileName } = await readParameter(source, prefix + name, parameter.shape, dialect, backend, dtype);
      parameter.value = value;
      if (fileName !== undefined) used.add(fileName);
    }
    for (const [at, layer] of layers) {
      const { length, fileName } = await readKernelLength(source, prefix + at);
      layer.layer.kernel.kernelLength = length;
      if (fileName !== undefined) used.add(fileName);
    }
    for (const name of source.names)
      if (!used.has(name) && name.startsWith(prefix) && !name.endsWith("num_batches_tracked"))
        throw new CheckpointError(`${source.info(name).file}: tensor ${name} belongs to nothing in this model`);
  } catch (error) {
    module.dispose();
    throw error;
  }
}

/** A model's tensors, ready for a safetensors file, under the names and signs of either dialect. `s4d` has diagonal models of one channel only. */
export function s4Tensors(model: S4Model, dialect: S4Dialect = "s4"): TensorToWrite[] {
  const { mode, channels, bidirectional, dtTransform, realTransform, discretization, nSsm, dModel } = model.config;
  const isMinimal =
    mode === "diag" &&
    channels === 1 &&
    !bidirectional &&
    dtTransform === "exp" &&
    realTransform === "exp" &&
    discretization === "zoh" &&
    nSsm === dModel;
  if (dialect === "s4d" && !isMinimal)
    throw new UnsupportedError("S4: the s4d dialect has S4D by zero-order hold only, one channel, a system per head", {
      hint: 'write the "s4" dialect',
    });
  const named = [...model.namedParameters()].map(([name, parameter]) => [name, parameter.value] as const);
  return parametersToWrite(named, dialect, (prefix) => {
    const index = Number(/s4_layers\.(\d+)\./.exec(prefix)?.[1]);
    return model.s4Layers[index]!.layer.kernel;
  });
}
