/** A Jamba in GGUF as llama.cpp has it: names, and keys (convert_hf_to_gguf.py, JambaModel). */
import { ConfigError } from "@mamba-ts/backend";
import { layeredMap, prefixMap, type TensorSource } from "@mamba-ts/checkpoint";
import type { GgufToWrite } from "@mamba-ts/checkpoint/gguf";
import { type GgufOptions, generalKeys, ggufLayerNames, ggufTensors } from "@mamba-ts/mamba/load";
import type { JambaConfig, LayerType, ResolvedJambaConfig } from "./config.js";
import type { Jamba } from "./model.js";

const feedForward = ["gate", "up", "down"] as const;

/** llama.cpp's names. The experts of a layer lie in one tensor of each kind there too. */
export const ggufNames = layeredMap(
  "gguf",
  ["blk.", "model.layers."],
  prefixMap("gguf", [
    ["attn_norm", "input_layernorm"],
    ["ffn_norm", "pre_ff_layernorm"],
    ...ggufLayerNames("mamba"),
    ...["dt", "b", "c"].map((part): [string, string] => [`ssm_${part}_norm`, `mamba.${part}_layernorm`]),
    ...["q", "k", "v"].map((part): [string, string] => [`attn_${part}`, `self_attn.${part}_proj`]),
    ["attn_output", "self_attn.o_proj"],
    ["ffn_gate_inp", "feed_forward.router"],
    ...feedForward.map((part): [string, string] => [`ffn_${part}_exps.weight`, `feed_forward.experts.${part}_proj`]),
    ...feedForward.map((part): [string, string] => [`ffn_${part}`, `feed_forward.${part}_proj`]),
  ]),
  prefixMap("gguf", [
    ["token_embd", "model.embed_tokens"],
    ["output_norm", "model.final_layernorm"],
    ["output", "lm_head"],
  ]),
);

/** Whether a file's tensors have llama.cpp's names. */
export function isGguf(file: TensorSource): boolean {
  return file.has("token_embd.weight");
}

/** The configuration that a file's keys and tensors say. Throws ConfigError for what is missing or no number. */
export function parseGgufConfig(metadata: Readonly<Record<string, unknown>>, file: TensorSource): JambaConfig {
  const number = (key: string, otherwise?: number): number => {
    const value = metadata[`jamba.${key}`] ?? otherwise;
    if (typeof value !== "number")
      throw new ConfigError(`config: jamba.${key} is ${JSON.stringify(value) ?? "missing"}`);
    return value;
  };
  const nLayer = number("block_count");
  const kvHeads = metadata["jamba.attention.head_count_kv"];
  if (!Array.isArray(kvHeads) || kvHeads.length !== nLayer || !kvHeads.every((n) => typeof n === "number"))
    throw new ConfigError(`config: jamba.attention.head_count_kv is no list of ${nLayer} numbers`);
  const experts = [...Array(nLayer).keys()].filter((i) => file.has(`blk.${i}.ffn_gate_inp.weight`));
  const dModel = number("embedding_length");
  return {
    dModel,
    nLayer,
    vocabSize: file.info("token_embd.weight").shape[0]!,
    dFeedForward: number("feed_forward_length"),
    nHeads: number("attention.head_count"),
    nKvHeads: Math.max(1, ...(kvHeads as number[])),
    layerTypes: (kvHeads as number[]).map((n): LayerType => (n === 0 ? "mamba" : "attention")),
    nExperts: experts.length === 0 ? 1 : number("expert_count"),
    topK: experts.length === 0 ? 1 : number("expert_used_count"),
    ...(experts.length === 0 ? {} : schedule(experts, nLayer)),
    normEps: number("attention.layer_norm_rms_epsilon"),
    maxLength: number("context_length"),
    tieEmbeddings: !file.has("output.weight"),
    dState: number("ssm.state_size"),
    dConv: number("ssm.conv_kernel"),
    expand: number("ssm.inner_size") / dModel,
    dtRank: number("ssm.time_step_rank"),
    innerNorms: file.names.some((name) => name.endsWith(".ssm_dt_norm.weight")),
    auxLoss: false,
  };
}

/** Which layers have experts, as a period and an offset. */
function schedule(experts: readonly number[], nLayer: number) {
  const [first, second = first! + nLayer] = experts;
  const [expertLayerPeriod, expertLayerOffset] = [second - first!, first!];
  if (experts.some((layer, i) => layer !== expertLayerOffset + i * expertLayerPeriod))
    throw new ConfigError(`config: layers ${experts.join(", ")} have experts, which is no regular schedule`);
  return { expertLayerPeriod, expertLayerOffset };
}

/** A model as a GGUF file that llama.cpp runs. Experts stay in float32 with q8_0. Throws ConfigError for what llama.cpp's Jamba has not. */
export function jambaGguf(
  model: Jamba,
  { dtype = "float32", tokenizer, name = "jamba" }: GgufOptions = {},
): GgufToWrite {
  const { config } = model;
  return {
    metadata: { ...generalKeys("jamba", dtype, name), ...keys(config) },
    tokenizer: { of: tokenizer, vocabSize: config.vocabSize },
    tensors: ggufTensors(model, ggufNames, dtype),
  };
}

function keys(config: ResolvedJambaConfig) {
  const { dModel, mamba, expertLayers, nExperts } = config;
  const refuse = (what: string): never => {
    throw new ConfigError(`GGUF: llama.cpp's Jamba has ${what}`, { hint: "write safetensors" });
  };
  if (mamba.bias) refuse("no biases of its projections");
  if (!mamba.convBias) refuse("no convolution without a bias");
  if (mamba.innerNorm !== "weighted") refuse("norms of dt, B and C");
  if (mamba.dInner !== 2 * dModel)
    refuse(`twice as many channels as its width, this model ${mamba.dInner} for ${dModel}`);
  const uint = (values: Readonly<Record<string, number>>) =>
    Object.fromEntries(Object.entries(values).map(([key, value]) => [`jamba.${key}`, { uint32: value }]));
  return {
    ...uint({
      context_length: config.maxLength,
      embedding_length: dModel,
      feed_forward_length: config.dFeedForward,
      block_count: config.nLayer,
      vocab_size: config.vocabSize,
      "attention.head_count": config.nHeads,
      "ssm.conv_kernel": mamba.dConv,
      "ssm.inner_size": mamba.dInner,
      "ssm.state_size": mamba.dState,
      "ssm.time_step_rank": mamba.dtRank,
      ...(expertLayers.includes(true) ? { expert_count: nExperts, expert_used_count: config.topK } : {}),
    }),
    "jamba.attention.head_count_kv": {
      int32s: config.layerTypes.map((type) => (type === "attention" ? config.nKvHeads : 0)),
    },
    "jamba.attention.layer_norm_rms_epsilon": { float32: config.normEps },
  };
}
