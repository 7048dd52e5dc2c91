/** A Mamba in GGUF as llama.cpp has it: the values that differ from those of other checkpoints, and its keys (convert_hf_to_gguf.py, MambaModel). */
import { CheckpointError, ConfigError, type DType, type Shape } from "@mamba-ts/backend";
import type { Checkpoint, KeyMap, TensorSource, TensorToWrite } from "@mamba-ts/checkpoint";
import { tensorToWrite } from "@mamba-ts/checkpoint";
import type { GgufEntries, GgufToWrite } from "@mamba-ts/checkpoint/gguf";
import type { Tensor } from "@mamba-ts/tensor";
import { ggufNames } from "./checkpoint-names.js";
import type { ResolvedMambaConfig } from "./config.js";
import type { Mamba } from "./model.js";

/** llama_ftype: what most of a file's weights are. */
const fileTypes: { readonly [K in DType]?: number } = { float32: 0, f16: 1, q8_0: 7, bf16: 32 };
/** Where these may be: nothing in the architecture limits the length. */
const CONTEXT_LENGTH = 2 ** 20;

/**
 * GGUF's tensors, under the model's names, as the model has them: A_log from A, the convolution's kernel with its axis of 1.
 * @param names - of the file, for messages
 */
export function fromGgufValues(source: TensorSource, names: KeyMap = ggufNames): TensorSource {
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
      if (dtype !== "F32") throw new CheckpointError(`${file}: ${names.toFile(name)} is ${dtype}, not F32`);
      return mapFloats(bytes, (a) => {
        if (!(a < 0)) throw new CheckpointError(`${file}: ${names.toFile(name)} holds ${a}, which is not below 0`);
        return Math.log(-a);
      });
    },
  };
}

function mapFloats(bytes: Uint8Array, f: (x: number) => number): Uint8Array {
  return new Uint8Array(new Float32Array(bytes.slice().buffer).map(f).buffer);
}

/** A parameter as a tensor of a GGUF file. Vectors and what is not a matrix of `linear` or `gather` are F32, which is all that llama.cpp computes with. */
export function ggufTensor(name: string, tensor: Tensor, dtype: DType, names: KeyMap = ggufNames): TensorToWrite {
  const plain = tensorToWrite(names.toFile(name), tensor, dtype);
  if (name.endsWith(".conv1d.weight")) return { ...plain, shape: [tensor.shape[0]!, tensor.shape[2]!] }; // [dInner, dConv]
  if (!name.endsWith(".A_log")) return plain;
  return { ...plain, bytes: async () => mapFloats(await plain.bytes(), (log) => -Math.exp(log)) };
}

/**
 * A model as a GGUF file that llama.cpp runs.
 * @param options - dtype of the weights: float32, f16, bf16 or q8_0; tokenizer: as of the checkpoint, none for bytes; name: for people
 * Throws ConfigError for what llama.cpp's Mamba has not, UnsupportedError for a tokenizer that is not written.
 */
export function mambaGguf(
  model: Mamba,
  {
    dtype = "float32",
    tokenizer,
    name = "mamba",
  }: { readonly dtype?: DType; readonly tokenizer?: Checkpoint["tokenizer"]; readonly name?: string } = {},
): GgufToWrite {
  return {
    metadata: keys(model.config, dtype, name),
    tokenizer: { of: tokenizer, vocabSize: model.config.vocabSize },
    tensors: [...model.namedParameters()].map(([parameterName, parameter]) =>
      ggufTensor(parameterName, parameter.value, parameter.dtypeIn(dtype)),
    ),
  };
}

/** The keys that say what a file is, whatever the model. Throws ConfigError for weights that llama.cpp has not. */
export function ggufGeneralKeys(architecture: string, dtype: DType, name: string): GgufEntries {
  const fileType = fileTypes[dtype];
  if (fileType === undefined)
    throw new ConfigError(`GGUF: llama.cpp has no weights in ${dtype}`, { hint: "write safetensors" });
  return {
    "general.architecture": architecture,
    "general.type": "model",
    "general.name": name,
    "general.file_type": { uint32: fileType },
    "general.quantization_version": { uint32: 2 },
  };
}

function keys(config: ResolvedMambaConfig, dtype: DType, name: string): GgufEntries {
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
    ...ggufGeneralKeys("mamba", dtype, name),
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
