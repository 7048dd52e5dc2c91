/** transformers' `config.json` of a Jamba, in the spellings of all its versions. */
import { ConfigError } from "@mamba-ts/backend";
import { type JambaConfig, type LayerType, type ResolvedJambaConfig, resolveJambaConfig } from "./config.js";

type Json = Readonly<Record<string, unknown>>;

/** Our names for the keys whose values mean the same. */
const same = {
  hidden_size: "dModel",
  num_hidden_layers: "nLayer",
  vocab_size: "vocabSize",
  intermediate_size: "dFeedForward",
  num_attention_heads: "nHeads",
  num_key_value_heads: "nKvHeads",
  attn_layer_period: "attnLayerPeriod",
  attn_layer_offset: "attnLayerOffset",
  expert_layer_period: "expertLayerPeriod",
  expert_layer_offset: "expertLayerOffset",
  num_experts: "nExperts",
  num_experts_per_tok: "topK",
  router_aux_loss_coef: "auxLossCoef",
  rms_norm_eps: "normEps",
  tie_word_embeddings: "tieEmbeddings",
  max_position_embeddings: "maxLength",
  n_ctx: "maxLength",
  initializer_range: "initStd",
  mamba_d_state: "dState",
  mamba_d_conv: "dConv",
  mamba_expand: "expand",
  mamba_dt_rank: "dtRank",
  mamba_conv_bias: "convBias",
  mamba_proj_bias: "bias",
  mamba_inner_layernorms: "innerNorms",
} as const satisfies { readonly [key: string]: keyof JambaConfig };

const booleans = new Set<string>(["tieEmbeddings", "convBias", "bias", "innerNorms"]);

/** Throws ConfigError for what is missing, of the wrong type, or beyond what a Jamba here can be. */
export function parseJambaConfig(json: unknown): JambaConfig {
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new ConfigError("config: not a JSON object");
  const config = json as Json;
  if (config["model_type"] !== "jamba")
    throw new ConfigError(`config: model_type ${JSON.stringify(config["model_type"])} is not a Jamba`);
  const act = config["hidden_act"] ?? "silu";
  if (act !== "silu") throw new ConfigError(`config: hidden_act ${String(act)} is not supported; Jamba uses silu`);
  if ((config["sliding_window"] ?? null) !== null)
    throw new ConfigError(
      `config: sliding_window ${String(config["sliding_window"])} is not supported; Jamba has none`,
    );
  if ((config["attention_dropout"] ?? 0) !== 0)
    throw new ConfigError("config: attention_dropout is not supported; set it to 0");
  const out: { [key: string]: unknown } = {};
  for (const [key, ours] of Object.entries(same)) {
    const value = config[key];
    if (value === undefined || value === null || (ours in out && key === "n_ctx")) continue;
    const fits = booleans.has(ours)
      ? typeof value === "boolean"
      : typeof value === "number" || (ours === "dtRank" && value === "auto");
    if (!fits) throw new ConfigError(`config: ${key} is ${JSON.stringify(value)}`);
    out[ours] = value;
  }
  for (const key of ["hidden_size", "num_hidden_layers", "vocab_size"] as const)
    if (!(same[key] in out)) throw new ConfigError(`config: ${key} is missing`);
  const types = config["layers_block_type"] ?? config["layer_types"];
  if (types !== undefined && types !== null) out["layerTypes"] = layerTypes(types);
  const router = config["output_router_logits"] ?? false;
  if (typeof router !== "boolean") throw new ConfigError(`config: output_router_logits is ${JSON.stringify(router)}`);
  return { ...out, auxLoss: router } as unknown as JambaConfig;
}

function layerTypes(types: unknown): LayerType[] {
  if (!Array.isArray(types))
    throw new ConfigError(`config: the layers' types are ${JSON.stringify(types)}, not a list`);
  return types.map((type: unknown, i) => {
    if (type === "mamba") return "mamba";
    if (type === "attention" || type === "full_attention") return "attention";
    throw new ConfigError(`config: layer ${i} is of type ${JSON.stringify(type)}, not mamba or attention`);
  });
}

/** A transformers `config.json` for a model. Throws ConfigError where period and offset cannot say which layers are attention. */
export function toTransformersJambaConfig(given: JambaConfig | ResolvedJambaConfig): Record<string, unknown> {
  const config = "mamba" in given ? given : resolveJambaConfig(given);
  const { mamba } = config;
  config.layerTypes.forEach((type, i) => {
    const scheduled = i % config.attnLayerPeriod === config.attnLayerOffset ? "attention" : "mamba";
    if (type !== scheduled)
      throw new ConfigError(`config: layer ${i} is ${type}; transformers' period and offset make it ${scheduled}`);
  });
  return {
    architectures: ["JambaForCausalLM"],
    model_type: "jamba",
    hidden_size: config.dModel,
    num_hidden_layers: config.nLayer,
    vocab_size: config.vocabSize,
    intermediate_size: config.dFeedForward,
    num_attention_heads: config.nHeads,
    num_key_value_heads: config.nKvHeads,
    attn_layer_period: config.attnLayerPeriod,
    attn_layer_offset: config.attnLayerOffset,
    expert_layer_period: config.expertLayerPeriod,
    expert_layer_offset: config.expertLayerOffset,
    num_experts: config.nExperts,
    num_experts_per_tok: config.topK,
    // Without routers transformers fails where it is asked for their logits.
    output_router_logits: config.auxLoss && config.expertLayers.some(Boolean),
    router_aux_loss_coef: config.auxLossCoef,
    rms_norm_eps: config.normEps,
    tie_word_embeddings: config.tieEmbeddings,
    max_position_embeddings: config.maxLength,
    initializer_range: config.initStd,
    hidden_act: "silu",
    mamba_d_state: mamba.dState,
    mamba_d_conv: mamba.dConv,
    mamba_expand: mamba.dInner / mamba.dModel,
    mamba_dt_rank: mamba.dtRank,
    mamba_conv_bias: mamba.convBias,
    mamba_proj_bias: mamba.bias,
    ...(mamba.innerNorm === "none" ? { mamba_inner_layernorms: false } : {}),
    attention_dropout: 0,
    use_cache: true,
    use_mamba_kernels: false,
    pad_token_id: 0,
    bos_token_id: 1,
    eos_token_id: 2,
  };
}

/** `toTransformersJambaConfig` as the text of a `config.json`: transformers insists that some numbers are floats. */
export function jambaConfigText(config: JambaConfig | ResolvedJambaConfig, dtype = "float32"): string {
  const text = JSON.stringify({ ...toTransformersJambaConfig(config), dtype }, null, 2);
  return `${text.replace(/("(?:router_aux_loss_coef|rms_norm_eps|initializer_range|attention_dropout)": -?\d+)(?=,?$)/gm, "$1.0")}\n`;
}
