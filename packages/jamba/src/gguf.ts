/** A Jamba in GGUF as llama.cpp has it: names, values and keys (convert_hf_to_gguf.py, JambaModel). */
import { CheckpointError, ConfigError, type DType } from "@mamba-ts/backend";
import { type Checkpoint, type KeyMap, layeredMap, prefixMap, type TensorSource } from "@mamba-ts/checkpoint";
import type { GgufEntries, GgufToWrite } from "@mamba-ts/checkpoint/gguf";
import { ggufGeneralKeys, ggufTensor } from "@mamba-ts/mamba/load";
import type { JambaConfig, ResolvedJambaConfig } from "./config.js";
import type { Jamba } from "./model.js";

type Json = Readonly<Record<string, unknown>>;

/** llama.cpp's names; what `ssm_a` holds differs too. */
export const jambaGgufNames: KeyMap = layeredMap(
  "gguf",
  ["blk.", "model.layers."],
  prefixMap("gguf", [
    ["attn_norm", "input_layernorm"],
    ["ffn_norm", "pre_ff_layernorm"],
    ["ssm_in", "mamba.in_proj"],
    ["ssm_conv1d", "mamba.conv1d"],
    ["ssm_x", "mamba.x_proj"],
    ["ssm_dt_norm", "mamba.dt_layernorm"],
    ["ssm_dt", "mamba.dt_proj"],
    ["ssm_b_norm", "mamba.b_layernorm"],
    ["ssm_c_norm", "mamba.c_layernorm"],
    ["ssm_a", "mamba.A_log"],
    ["ssm_d", "mamba.D"],
    ["ssm_out", "mamba.out_proj"],
    ["attn_q", "self_attn.q_proj"],
    ["attn_k", "self_attn.k_proj"],
    ["attn_v", "self_attn.v_proj"],
    ["attn_output", "self_attn.o_proj"],
    ["ffn_gate_inp", "feed_forward.router"],
    // All experts of a layer in one tensor, as the model has them, which calls them by no `.weight`.
    ...["gate", "up", "down"].map((kind) => [`ffn_${kind}_exps.weight`, `feed_forward.experts.${kind}_proj`] as const),
    ...["gate", "up", "down"].map((kind) => [`ffn_${kind}`, `feed_forward.${kind}_proj`] as const),
  ]),
  prefixMap("gguf", [
    ["token_embd", "model.embed_tokens"],
    ["output_norm", "model.final_layernorm"],
    ["output", "lm_head"],
  ]),
);
export function isJambaGguf(json: unknown): json is Json {
  return (json as Json | null)?.["general.architecture"] === "jamba";
}

/** The configuration that keys and tensors of a GGUF file make: which layers have experts only the tensors say. Throws ConfigError. */
export function jambaConfigOfGguf(json: Json, source: TensorSource): JambaConfig {
  const number = (key: string): number => {
    const value = json[`jamba.${key}`];
    if (typeof value !== "number")
      throw new ConfigError(`config: jamba.${key} is ${JSON.stringify(value)}, not a number`);
    return value;
  };
  const [nLayer, dModel, nHeads] = [number("block_count"), number("embedding_length"), number("attention.head_count")];
  const kvHeads = json["jamba.attention.head_count_kv"];
  if (!Array.isArray(kvHeads) || kvHeads.length !== nLayer || !kvHeads.every((n) => Number.isInteger(n) && n >= 0))
    throw new ConfigError(`config: jamba.attention.head_count_kv is no list of ${nLayer} counts, one per layer`);
  const counts = new Set(kvHeads.filter((n) => n > 0) as number[]);
  if (counts.size > 1)
    throw new ConfigError(`config: layers with ${[...counts].join(" and ")} key-value heads; a Jamba's have as many`);
  const isAttention = kvHeads.map((n: number) => n > 0);
  const hasExperts = isAttention.map((_, i) => source.has(`blk.${i}.ffn_gate_inp.weight`));
  const [attention, experts] = [scheduleOf(isAttention), scheduleOf(hasExperts)];
  if (experts === undefined)
    throw new ConfigError(`config: experts in layers ${indices(hasExperts)}, which are not one in every so many`);
  if (!source.has("token_embd.weight")) throw new CheckpointError("checkpoint: tensor token_embd.weight is missing");
  return {
    ...{ dModel, nLayer, nHeads, vocabSize: source.info("token_embd.weight").shape[0]! },
    ...{ nKvHeads: [...counts][0] ?? nHeads, dFeedForward: number("feed_forward_length") },
    layerTypes: isAttention.map((yes) => (yes ? "attention" : "mamba")),
    ...(attention && { attnLayerPeriod: attention.period, attnLayerOffset: attention.offset }),
    ...{ expertLayerPeriod: experts.period, expertLayerOffset: experts.offset },
    ...(hasExperts.includes(true)
      ? { nExperts: number("expert_count"), topK: number("expert_used_count") }
      : { nExperts: 1, topK: 1 }),
    ...{ dState: number("ssm.state_size"), dConv: number("ssm.conv_kernel"), dtRank: number("ssm.time_step_rank") },
    expand: number("ssm.inner_size") / dModel,
    normEps: number("attention.layer_norm_rms_epsilon"),
    maxLength: number("context_length"),
    tieEmbeddings: !source.has("output.weight"),
    auxLoss: false,
  };
}

const indices = (flags: readonly boolean[]): string => flags.flatMap((yes, i) => (yes ? [i] : [])).join(", ");

/** Where flags are set in layer i exactly if i % period is offset. Undefined if they are not set so. */
function scheduleOf(flags: readonly boolean[]): { readonly period: number; readonly offset: number } | undefined {
  const first = flags.indexOf(true);
  // In no layer: the first would be the one after the last.
  if (first < 0) return { period: flags.length + 1, offset: flags.length };
  const second = flags.indexOf(true, first + 1);
  const period = second < 0 ? Math.max(flags.length, first + 1) : second - first;
  const fits = first < period && flags.every((yes, i) => yes === (i % period === first));
  return fits ? { period, offset: first } : undefined;
}

/**
 * A model as a GGUF file that llama.cpp runs.
 * @param options - dtype of the weights: float32, f16, bf16 or q8_0 (experts and the router stay float32 in q8_0); tokenizer: as of the
 * checkpoint, none for bytes; name: for people
 * Throws ConfigError for what llama.cpp's Jamba has not, UnsupportedError for a tokenizer that is not written.
 */
export function jambaGguf(
  model: Jamba,
  {
    dtype = "float32",
    tokenizer,
    name = "jamba",
  }: { readonly dtype?: DType; readonly tokenizer?: Checkpoint["tokenizer"]; readonly name?: string } = {},
): GgufToWrite {
  return {
    metadata: keys(model.config, dtype, name),
    tokenizer: { of: tokenizer, vocabSize: model.config.vocabSize },
    tensors: [...model.namedParameters()].map(([parameterName, parameter]) => {
      // llama.cpp keeps routers in float32.
      const type = parameterName.endsWith(".router.weight") ? "float32" : parameter.dtypeIn(dtype);
      return ggufTensor(parameterName, parameter.value, type, jambaGgufNames);
    }),
  };
}

function keys(config: ResolvedJambaConfig, dtype: DType, name: string): GgufEntries {
  const { mamba, layerTypes, nKvHeads, dModel } = config;
  const refuse = (what: string): never => {
    throw new ConfigError(`GGUF: llama.cpp's Jamba has ${what}`, { hint: "write safetensors" });
  };
  if (mamba.bias) refuse("no biases of its projections");
  if (!mamba.convBias) refuse("no convolution without a bias");
  if (mamba.innerNorm !== "weighted") refuse("norms of dt, B and C");
  if (mamba.dInner !== 2 * dModel)
    refuse(`twice as many channels as its width, this model ${mamba.dInner} for ${dModel}`);
  return {
    ...ggufGeneralKeys("jamba", dtype, name),
    "jamba.context_length": { uint32: config.maxLength },
    "jamba.embedding_length": { uint32: dModel },
    "jamba.feed_forward_length": { uint32: config.dFeedForward },
    "jamba.block_count": { uint32: config.nLayer },
    "jamba.attention.head_count": { uint32: config.nHeads },
    "jamba.attention.head_count_kv": { int32s: layerTypes.map((type) => (type === "attention" ? nKvHeads : 0)) },
    "jamba.attention.layer_norm_rms_epsilon": { float32: config.normEps },
    "jamba.ssm.conv_kernel": { uint32: mamba.dConv },
    "jamba.ssm.inner_size": { uint32: mamba.dInner },
    "jamba.ssm.state_size": { uint32: mamba.dState },
    "jamba.ssm.time_step_rank": { uint32: mamba.dtRank },
    "jamba.expert_count": { uint32: config.nExperts },
    "jamba.expert_used_count": { uint32: config.topK },
    "jamba.vocab_size": { uint32: config.vocabSize },
  };
}
