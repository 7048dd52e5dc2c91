/** A Mamba in GGUF as llama.cpp has it: the values that differ from those of other checkpoints, and its keys (convert_hf_to_gguf.py, MambaModel). */
import { CheckpointError, ConfigError, type DType, type Shape } from "@mamba-ts/backend";
import {
  type Checkpoint,
  type KeyMap,
  renameSource,
  type TensorSource,
  type TensorToWrite,
  tensorToWrite,
} from "@mamba-ts/checkpoint";
import type { GgufEntries, GgufToWrite } from "@mamba-ts/checkpoint/gguf";
import type { Module } from "@mamba-ts/nn";
import { ggufNames } from "./checkpoint-names.js";
import type { ResolvedMambaConfig } from "./config.js";
import type { Mamba } from "./model.js";

/** llama_ftype: what most of a file's weights are. */
const fileTypes: { readonly [K in DType]?: number } = { float32: 0, f16: 1, q8_0: 7, bf16: 32 };
/** Where these may be: nothing in the architecture limits the length. */
const CONTEXT_LENGTH = 2 ** 20;

/**
 * GGUF's tensors under a model's names, as the model has them: A_log from A, the convolution's kernel with its axis of 1.
 * @param map - from llama.cpp's names of this architecture
 */
export function fromGguf(file: TensorSource, map: KeyMap): TensorSource {
  const source = renameSource(file, map);
  const shapeOf = (name: string, shape: Shape): Shape =>
    name.endsWith(".conv1d.weight") && shape.length === 2 ? [shape[0]!, 1, shape[1]!] : shape; // [dInner, 1, dConv]
  return {
    ...source,
    info: (name) => {
      const info = source.info(name);
      return { ...info, shape: shapeOf(name, info.shape) };
    },
    async bytes(name, signal) {
      const bytes = await source.bytes(name, signal);
      if (!name.endsWith(".A_log")) return bytes;
      const { dtype, file } = source.info(name);
      if (dtype !== "F32") throw new CheckpointError(`${file}: ${map.toFile(name)} is ${dtype}, not F32`);
      return mapFloats(bytes, (a) => {
        if (!(a < 0)) throw new CheckpointError(`${file}: ${map.toFile(name)} holds ${a}, which is not below 0`);
        return Math.log(-a);
      });
    },
  };
}

function mapFloats(bytes: Uint8Array, f: (x: number) => number): Uint8Array {
  return new Uint8Array(new Float32Array(bytes.slice().buffer).map(f).buffer);
}

/**
 * A model's parameters as tensors of a GGUF file, under the names of `map`; weights in `dtype`. Vectors, the convolution and A stay in
 * F32, which is all that llama.cpp computes with.
 */
export function ggufTensors(model: Module, map: KeyMap, dtype: DType): TensorToWrite[] {
  return [...model.namedParameters()].map(([name, parameter]) => {
    const plain = tensorToWrite(map.toFile(name), parameter.value, parameter.dtypeIn(dtype));
    const [rows, , width] = parameter.shape as [number, number, number];
    if (name.endsWith(".conv1d.weight")) return { ...plain, shape: [rows, width] }; // [dInner, dConv]
    if (!name.endsWith(".A_log")) return plain;
    return { ...plain, bytes: async () => mapFloats(await plain.bytes(), (log) => -Math.exp(log)) };
  });
}

/** What the keys of every architecture begin with. Throws ConfigError for a dtype that GGUF has not. */
export function generalKeys(architecture: string, dtype: DType, name: string): GgufEntries {
  const fileType = fileTypes[dtype];
  if (fileType === undefined) throw new ConfigError(`GGUF: llama.cpp has no weights in ${dtype}`);
  return {
    "general.architecture": architecture,
    "general.type": "model",
    "general.name": name,
    "general.file_type": { uint32: fileType },
    "general.quantization_version": { uint32: 2 },
  };
}

export interface GgufOptions {
  /** Of the weights: float32 by default, f16, bf16 or q8_0. */
  readonly dtype?: DType;
  /** As of the checkpoint; none for models that read bytes. */
  readonly tokenizer?: Checkpoint["tokenizer"];
  /** For people. */
  readonly name?: string;
}

/**
 * A model as a GGUF file that llama.cpp runs.
 * Throws ConfigError for what llama.cpp's Mamba has not; writing it throws UnsupportedError for a tokenizer that is not translated.
 */
export function mambaGguf(
  model: Mamba,
  { dtype = "float32", tokenizer, name = "mamba" }: GgufOptions = {},
): GgufToWrite {
  return {
    metadata: { ...generalKeys("mamba", dtype, name), ...keys(model.config) },
    tokenizer: { of: tokenizer, vocabSize: model.config.vocabSize },
    tensors: ggufTensors(model, ggufNames, dtype),
  };
}

function keys(config: ResolvedMambaConfig): GgufEntries {
  const { dModel, dInner, innerNorm } = config;
  const refuse = (what: string): never => {
    throw new ConfigError(`GGUF: llama.cpp's Mamba has ${what}`, { hint: "write safetensors" });
  };
  if (config.norm !== "rms") refuse("no layer norms");
  if (config.bias) refuse("no biases of its projections");
  if (!config.convBias) refuse("no convolution without a bias");
  if (innerNorm === "weighted") refuse("no weights in its norms of dt, B and C");
  if (dInner !== 2 * dModel) refuse(`twice as many channels as its width, this model ${dInner} for ${dModel}`);
  return {
    "mamba.context_length": { uint32: CONTEXT_LENGTH },
    "mamba.embedding_length": { uint32: dModel },
    "mamba.feed_forward_length": { uint32: 0 },
    "mamba.attention.head_count": { uint32: 0 },
    "mamba.block_count": { uint32: config.nLayer },
    "mamba.vocab_size": { uint32: config.vocabSize },
    "mamba.ssm.conv_kernel": { uint32: config.dConv },
    "mamba.ssm.inner_size": { uint32: dInner },
    "mamba.ssm.state_size": { uint32: config.dState },
    "mamba.ssm.time_step_rank": { uint32: config.dtRank },
    "mamba.ssm.dt_b_c_rms": innerNorm === "plain",
    "mamba.attention.layer_norm_rms_epsilon": { float32: config.normEps },
  };
}
