/** The configurations checkpoints come with, translated: transformers' `config.json` and state-spaces/mamba's. */
import { ConfigError } from "@mamba-ts/backend";
import { type MambaConfig, type ResolvedMambaConfig, resolveConfig } from "./config.js";

type Json = Readonly<Record<string, unknown>>;

/** Reads any dialect, the keys of a GGUF file included. Norm, biases and tying are settled later, by which tensors the file has. Throws ConfigError. */
export function parseConfig(json: unknown): MambaConfig {
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new ConfigError("config: not a JSON object");
  const config = json as Json;
  const type = config["model_type"];
  if (type === "mamba" || type === "falcon_mamba") return fromTransformers(config, type);
  if (type === undefined && "d_model" in config && "n_layer" in config) return fromStateSpaces(config);
  if (config["general.architecture"] === "mamba") return fromGguf(config);
  throw new ConfigError(`config: model_type ${JSON.stringify(type ?? config["general.architecture"])} is not a Mamba`, {
    hint: "mamba and falcon_mamba are read here; other families have packages of their own",
  });
}

function read<T extends "number" | "boolean" | "string">(
  config: Json,
  key: string,
  type: T,
): (T extends "number" ? number : T extends "boolean" ? boolean : string) | undefined {
  const value = config[key];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== type) throw new ConfigError(`config: ${key} is ${JSON.stringify(value)}, not a ${type}`);
  return value as never;
}

function required(config: Json, key: string): number {
  const value = read(config, key, "number");
  if (value === undefined) throw new ConfigError(`config: ${key} is missing`);
  return value;
}

function rank(value: unknown): number | "auto" | undefined {
  if (value === undefined || value === null || value === "auto") return "auto";
  if (typeof value !== "number") throw new ConfigError(`config: the rank of the time step is ${JSON.stringify(value)}`);
  return value;
}

function fromTransformers(config: Json, type: "mamba" | "falcon_mamba"): MambaConfig {
  const act = read(config, "hidden_act", "string");
  if (act !== undefined && act !== "silu")
    throw new ConfigError(`config: hidden_act ${act} is not supported; Mamba uses silu`);
  const init = read(config, "time_step_init_scheme", "string");
  if (init !== undefined && init !== "random" && init !== "constant")
    throw new ConfigError(`config: time_step_init_scheme ${init} is not known`);
  return drop({
    dModel: required(config, "hidden_size"),
    nLayer: required(config, "num_hidden_layers"),
    vocabSize: required(config, "vocab_size"),
    dState: read(config, "state_size", "number"),
    dConv: read(config, "conv_kernel", "number"),
    expand: read(config, "expand", "number"),
    dInner: read(config, "intermediate_size", "number"),
    dtRank: rank(config["time_step_rank"]),
    dtMin: read(config, "time_step_min", "number"),
    dtMax: read(config, "time_step_max", "number"),
    dtScale: read(config, "time_step_scale", "number"),
    dtInit: init as "random" | "constant" | undefined,
    dtInitFloor: read(config, "time_step_floor", "number"),
    convBias: read(config, "use_conv_bias", "boolean"),
    bias: read(config, "use_bias", "boolean"),
    normEps: read(config, "layer_norm_epsilon", "number"),
    tieEmbeddings: read(config, "tie_word_embeddings", "boolean") ?? type === "mamba",
    ...(type === "falcon_mamba"
      ? { innerNorm: "plain" as const, innerNormEps: read(config, "mixer_rms_eps", "number") ?? 1e-6 }
      : {}),
  });
}

function fromStateSpaces(config: Json): MambaConfig {
  const inner = (config["ssm_cfg"] ?? {}) as Json;
  const layer = read(inner, "layer", "string");
  if (layer !== undefined && layer !== "Mamba1") throw new ConfigError(`config: ssm_cfg.layer ${layer} is not Mamba1`);
  const attention = config["attn_layer_idx"];
  if (Array.isArray(attention) && attention.length > 0)
    throw new ConfigError("config: attn_layer_idx names attention layers, which a Mamba has not");
  if ((read(config, "d_intermediate", "number") ?? 0) !== 0)
    throw new ConfigError("config: d_intermediate asks for MLP layers, which a Mamba has not");
  const multiple = read(config, "pad_vocab_size_multiple", "number") ?? 8;
  const vocab = required(config, "vocab_size");
  return drop({
    dModel: required(config, "d_model"),
    nLayer: required(config, "n_layer"),
    vocabSize: Math.ceil(vocab / multiple) * multiple,
    dState: read(inner, "d_state", "number"),
    dConv: read(inner, "d_conv", "number"),
    expand: read(inner, "expand", "number"),
    dtRank: rank(inner["dt_rank"]),
    dtMin: read(inner, "dt_min", "number"),
    dtMax: read(inner, "dt_max", "number"),
    dtScale: read(inner, "dt_scale", "number"),
    convBias: read(inner, "conv_bias", "boolean"),
    bias: read(inner, "bias", "boolean"),
    norm: read(config, "rms_norm", "boolean") === false ? "layer" : "rms",
    tieEmbeddings: read(config, "tie_embeddings", "boolean"),
  });
}

function drop(config: { readonly [K in keyof MambaConfig]?: MambaConfig[K] | undefined }): MambaConfig {
  return Object.fromEntries(
    Object.entries(config).filter(([, value]) => value !== undefined),
  ) as unknown as MambaConfig;
}

/** llama.cpp's keys. FalconMamba has the same architecture there, and one epsilon for all norms. */
function fromGguf(config: Json): MambaConfig {
  const tokens = config["tokenizer.ggml.tokens"];
  const eps = read(config, "mamba.attention.layer_norm_rms_epsilon", "number");
  return drop({
    dModel: required(config, "mamba.embedding_length"),
    nLayer: required(config, "mamba.block_count"),
    // Rows of the embedding where there are more.
    vocabSize: read(config, "mamba.vocab_size", "number") ?? (Array.isArray(tokens) ? tokens.length : 1),
    dState: required(config, "mamba.ssm.state_size"),
    dConv: required(config, "mamba.ssm.conv_kernel"),
    dInner: required(config, "mamba.ssm.inner_size"),
    dtRank: required(config, "mamba.ssm.time_step_rank"),
    normEps: eps,
    tieEmbeddings: false,
    ...(read(config, "mamba.ssm.dt_b_c_rms", "boolean") ? { innerNorm: "plain" as const, innerNormEps: eps } : {}),
  });
}

/** A transformers `config.json` for a model: what `from_pretrained` needs. */
export function toTransformersConfig(given: MambaConfig): Record<string, unknown> {
  const config: ResolvedMambaConfig = resolveConfig(given);
  if (config.innerNorm === "weighted")
    throw new ConfigError("config: no model_type of transformers is a Mamba with weighted norms of dt, B and C");
  const falcon = config.innerNorm === "plain";
  return {
    architectures: [falcon ? "FalconMambaForCausalLM" : "MambaForCausalLM"],
    model_type: falcon ? "falcon_mamba" : "mamba",
    hidden_size: config.dModel,
    intermediate_size: config.dInner,
    num_hidden_layers: config.nLayer,
    vocab_size: config.vocabSize,
    state_size: config.dState,
    conv_kernel: config.dConv,
    expand: config.expand,
    time_step_rank: config.dtRank,
    time_step_min: config.dtMin,
    time_step_max: config.dtMax,
    time_step_scale: config.dtScale,
    time_step_init_scheme: config.dtInit,
    time_step_floor: config.dtInitFloor,
    use_bias: config.bias,
    use_conv_bias: config.convBias,
    hidden_act: "silu",
    layer_norm_epsilon: config.normEps,
    ...(falcon ? { mixer_rms_eps: config.innerNormEps } : {}),
    residual_in_fp32: true,
    rescale_prenorm_residual: false,
    tie_word_embeddings: config.tieEmbeddings,
    use_cache: true,
    dtype: "float32",
    pad_token_id: 0,
    bos_token_id: 0,
    eos_token_id: 0,
  };
}

/** Keys that transformers insists are floats. */
const floatKeys = [
  "time_step_scale",
  "time_step_min",
  "time_step_max",
  "time_step_floor",
  "layer_norm_epsilon",
  "mixer_rms_eps",
];

/** `toTransformersConfig` as the text of a `config.json`: there 1 is an integer and 1.0 a float, which JSON.stringify cannot say. */
export function transformersConfigText(config: MambaConfig, dtype = "float32"): string {
  const text = JSON.stringify({ ...toTransformersConfig(config), dtype }, null, 2);
  const whole = new RegExp(`("(?:${floatKeys.join("|")})": -?\\d+)(?=,?$)`, "gm");
  return `${text.replace(whole, "$1.0")}\n`;
}

/** state-spaces/mamba's `config.json` for a model. Throws ConfigError for what that format cannot say. */
export function toStateSpacesConfig(given: MambaConfig): Record<string, unknown> {
  const config = resolveConfig(given);
  if (config.innerNorm !== "none") throw new ConfigError("config: state-spaces' format has no norms of dt, B and C");
  return {
    d_model: config.dModel,
    d_intermediate: 0,
    n_layer: config.nLayer,
    vocab_size: config.vocabSize,
    ssm_cfg: {
      layer: "Mamba1",
      d_state: config.dState,
      d_conv: config.dConv,
      expand: config.expand,
      dt_rank: config.dtRank,
      conv_bias: config.convBias,
      bias: config.bias,
    },
    attn_layer_idx: [],
    attn_cfg: {},
    rms_norm: config.norm === "rms",
    residual_in_fp32: true,
    fused_add_norm: true,
    // The vocabulary above is padded already.
    pad_vocab_size_multiple: 1,
    tie_embeddings: config.tieEmbeddings,
  };
}
