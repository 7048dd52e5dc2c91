import { type Backend, CheckpointError, type DType } from "@mamba-ts/backend";
import { isInteger, readTensor, type TensorSource } from "@mamba-ts/checkpoint";
import type { Module } from "@mamba-ts/nn";
import { sameShape } from "@mamba-ts/tensor";

export interface LoadProgress {
  readonly tensor: string;
  readonly loadedTensors: number;
  readonly totalTensors: number;
}

export interface LoadOptions {
  readonly backend: Backend;
  /**
   * dtype of the weights; A_log, D, norms and the step's bias stay in float32. By default weights that the file has in blocks (q8_0) stay
   * so where the backend has the format, and all others are float32.
   */
  readonly dtype?: DType;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: LoadProgress) => void;
}

/** How a file's tensors are called, for messages, and which of them the model may leave. */
export interface LoadNames {
  /** The file's name for a parameter; the same by default. */
  readonly toFile?: (modelName: string) => string;
  /** Tensors, by the model's name, that may be in the file although nothing reads them. */
  readonly unused?: readonly string[];
}

/**
 * Reads a value for every parameter, one tensor at a time, so that no two copies of the weights exist. All names and shapes are checked first.
 * Throws CheckpointError naming the tensor that is missing, surplus or of the wrong shape or kind; the model is disposed then.
 * @param source - tensors under the model's names
 */
export async function loadParameters(
  model: Module,
  source: TensorSource,
  { backend, dtype, signal, onProgress }: LoadOptions,
  { toFile = (name) => name, unused = [] }: LoadNames = {},
): Promise<void> {
  const named = [...model.namedParameters()];
  const wanted = new Set([...named.map(([name]) => name), ...unused]);
  for (const [name, { shape }] of named) {
    if (!source.has(name)) throw new CheckpointError(`checkpoint: tensor ${toFile(name)} is missing`);
    const info = source.info(name);
    if (!sameShape(info.shape, shape))
      throw new CheckpointError(
        `${info.file}: tensor ${toFile(name)} is [${info.shape.join(", ")}], the config makes it [${shape.join(", ")}]`,
      );
    if (isInteger(info.dtype))
      throw new CheckpointError(`${info.file}: tensor ${toFile(name)} is ${info.dtype}, not floating point`);
  }
  for (const name of source.names)
    if (!wanted.has(name))
      throw new CheckpointError(`${source.info(name).file}: tensor ${toFile(name)} belongs to nothing in this model`);
  try {
    for (const [i, [name, parameter]] of named.entries()) {
      signal?.throwIfAborted();
      const inBlocks = source.info(name).dtype === "Q8_0" && backend.dtypes.has("q8_0");
      const target = parameter.dtypeIn(dtype ?? (inBlocks ? "q8_0" : "float32"));
      parameter.value = await readTensor(source, name, backend, { dtype: target, signal });
      onProgress?.({ tensor: name, loadedTensors: i + 1, totalTensors: named.length });
    }
  } catch (error) {
    model.dispose();
    throw error;
  }
}
