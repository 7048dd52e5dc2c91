/** The constructor's arguments of hustvl/Vim's model, which are what its checkpoints come with; its parameters say the rest. */
import { ConfigError } from "@mamba-ts/backend";
import type { TensorSource } from "@mamba-ts/checkpoint";
import type { ClassToken, ResolvedVisionMambaConfig, VisionMambaConfig } from "./config.js";

type Json = Readonly<Record<string, unknown>>;

const numbers = {
  patch_size: "patchSize",
  stride: "stride",
  depth: "nLayer",
  embed_dim: "dModel",
  d_state: "dState",
  channels: "channels",
  num_classes: "nClasses",
  norm_epsilon: "normEps",
  drop_path_rate: "dropPath",
} as const satisfies { readonly [key: string]: keyof VisionMambaConfig };

/** Arguments that make another model of it. */
const unsupported = ["if_rope", "if_rope_residual", "if_bidirectional", "use_random_cls_token_position"];

/** True if the tensors are a Vision Mamba's. */
export function isVisionMamba(source: Pick<TensorSource, "has">): boolean {
  return source.has("patch_embed.proj.weight") && source.has("layers.0.mixer.A_log");
}

/**
 * Reads the arguments; what they leave open is decided by which tensors there are. Throws ConfigError.
 * @param source - undefined: upstream's factories' choices
 */
export function parseVimConfig(json: unknown, source?: Pick<TensorSource, "has">): VisionMambaConfig {
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new ConfigError("config: not a JSON object");
  const config = json as Json;
  const out: { [key: string]: unknown } = {};
  for (const [key, ours] of Object.entries(numbers)) {
    const value = config[key];
    if (value === undefined || value === null) continue;
    if (typeof value !== "number") throw new ConfigError(`config: ${key} is ${JSON.stringify(value)}, not a number`);
    out[ours] = value;
  }
  for (const key of unsupported) if (config[key] === true) throw new ConfigError(`config: ${key} is not supported`);
  const size = config["img_size"];
  if (size !== undefined) out["imageSize"] = imageSize(size);
  const flag = (key: string, otherwise: boolean): boolean => {
    const value = config[key] ?? otherwise;
    if (typeof value !== "boolean")
      throw new ConfigError(`config: ${key} is ${JSON.stringify(value)}, not true or false`);
    return value;
  };
  const has = (name: string, otherwise: boolean): boolean => source?.has(name) ?? otherwise;
  return {
    ...out,
    classToken: classToken(flag, has),
    positions: flag("if_abs_pos_embed", has("pos_embed", true)),
    norm: has("layers.0.norm.bias", !flag("rms_norm", true)) ? "layer" : "rms",
    // The base model's factory spells it with an e, and the constructor's default applies.
    divideOut: flag("if_divide_out", flag("if_devide_out", true)),
    bimamba: bimamba(config["bimamba_type"], has),
    pool: pool(config["final_pool_type"]),
  };
}

function imageSize(size: unknown): number | [number, number] {
  if (typeof size === "number") return size;
  if (Array.isArray(size) && size.length === 2 && size.every((n) => typeof n === "number"))
    return size as [number, number];
  throw new ConfigError(`config: img_size is ${JSON.stringify(size)}, not a number or two`);
}

type Ask = (key: string, otherwise: boolean) => boolean;

function classToken(flag: Ask, has: Ask): ClassToken {
  if (!flag("if_cls_token", has("cls_token", true) || has("cls_token_head", false))) return "none";
  if (flag("use_double_cls_token", has("cls_token_head", false))) return "ends";
  return flag("use_middle_cls_token", true) ? "middle" : "head";
}

function bimamba(type: unknown, has: Ask): "v2" | "v1" | "none" {
  if (type === "v1" || type === "v2" || type === "none") return type;
  if (type !== undefined && type !== null) throw new ConfigError(`config: bimamba_type is ${JSON.stringify(type)}`);
  if (has("layers.0.mixer.conv1d_b.weight", true)) return "v2";
  return has("layers.0.mixer.A_b_log", true) ? "v1" : "none";
}

function pool(type: unknown): "mean" | "last" | "max" {
  if (type === undefined || type === null || type === "mean") return "mean";
  if (type === "none") return "last";
  if (type === "max") return "max";
  throw new ConfigError(`config: final_pool_type is ${JSON.stringify(type)}, not none, mean or max`);
}

/** The constructor's arguments for a model. */
export function toVimConfig(config: ResolvedVisionMambaConfig): Record<string, unknown> {
  const [height, width] = config.imageSize;
  return {
    img_size: height === width ? height : [height, width],
    patch_size: config.patchSize,
    stride: config.stride,
    depth: config.nLayer,
    embed_dim: config.dModel,
    d_state: config.dState,
    channels: config.channels,
    num_classes: config.nClasses,
    rms_norm: config.norm === "rms",
    norm_epsilon: config.normEps,
    drop_path_rate: config.dropPath,
    residual_in_fp32: true,
    fused_add_norm: true,
    if_abs_pos_embed: config.positions,
    if_rope: false,
    bimamba_type: config.bimamba,
    if_divide_out: config.divideOut,
    if_cls_token: config.classToken !== "none",
    use_middle_cls_token: config.classToken === "middle",
    use_double_cls_token: config.classToken === "ends",
    final_pool_type: config.pool === "last" ? "none" : config.pool,
  };
}
