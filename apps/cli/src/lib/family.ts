/** The models the commands serve, by a configuration's model_type, and where there is none by the tensors' names. */
import { type Backend, ConfigError, type DType } from "@mamba-ts/backend";
import type { Checkpoint, TensorSource, TensorToWrite } from "@mamba-ts/checkpoint";
import { tensorToWrite } from "@mamba-ts/checkpoint";
import type { GgufToWrite } from "@mamba-ts/checkpoint/gguf";
import type { GenerationState, GenerativeModel } from "@mamba-ts/generate";
import { Jamba } from "@mamba-ts/jamba";
import { jambaConfigOf, jambaConfigText, jambaGguf, loadJambaFrom, unstackExperts } from "@mamba-ts/jamba/load";
import { Mamba, type SegmentIds } from "@mamba-ts/mamba";
import {
  detectNaming,
  type LoadOptions,
  loadMambaFrom,
  mambaConfigOf,
  mambaGguf,
  type Naming,
  namings,
  toStateSpacesConfig,
  transformersConfigText,
} from "@mamba-ts/mamba/load";
import { detectMambaByteNaming, loadMambaByteFrom } from "@mamba-ts/mambabyte/load";
import { MoEMamba } from "@mamba-ts/moe-mamba";
import { loadMoEMambaFrom, moeMambaConfigText, parseMoEMambaConfig } from "@mamba-ts/moe-mamba/load";
import type { Module, Recompute } from "@mamba-ts/nn";
import type { Tensor } from "@mamba-ts/tensor";
import type { CarriedState, LanguageModel } from "@mamba-ts/train";
import { VisionMamba } from "@mamba-ts/vision-mamba";
import { isVisionMamba, loadVisionMambaFrom, parseVimConfig, toVimConfig } from "@mamba-ts/vision-mamba/load";

/** What a text model of any kind remembers. */
export type TextState = CarriedState & GenerationState;

/** What the commands need of a text model; every language model of this project is one. */
export interface TextModel extends LanguageModel<TextState>, GenerativeModel<TextState> {
  readonly backend: Backend;
  forward(
    input: readonly ArrayLike<number>[] | Tensor,
    options?: {
      readonly logits?: "all" | "last" | "none" | number;
      readonly hiddenStates?: boolean;
      readonly train?: boolean;
      readonly recompute?: Recompute;
      readonly state?: TextState | undefined;
      readonly into?: TextState | undefined;
      readonly segments?: SegmentIds | undefined;
    },
  ): {
    readonly hidden: Tensor;
    readonly state: TextState;
    readonly logits?: Tensor;
    readonly hiddenStates?: readonly Tensor[];
    readonly auxLoss?: Tensor;
    readonly penalty?: Tensor;
  };
}

/** What a checkpoint says of itself, without its weights. */
export interface Description {
  readonly config: object;
  readonly naming: string;
  readonly model: Module;
  /** Bytes of state per sequence after `length` tokens, in float32; undefined for models without one. */
  readonly stateBytes?: (length: number) => number;
}

interface GgufOptions {
  readonly dtype: DType;
  readonly tokenizer: Checkpoint["tokenizer"];
  readonly name: string;
}

interface Common<M extends Module> {
  readonly name: string;
  describe(json: unknown, source: TensorSource): Description;
  load(json: unknown, source: TensorSource, options: LoadOptions): Promise<M>;
  /** A parameter, or its gradient, under the names of a checkpoint. */
  write(name: string, tensor: Tensor, naming: string, dtype?: DType): TensorToWrite[];
  /** The whole as a GGUF file. Throws ConfigError for a model that llama.cpp has not. */
  gguf(model: M, options: GgufOptions): GgufToWrite;
  /** The text of config.json. Throws ConfigError for a naming this model has not. */
  configText(model: M, naming: string, dtype: string): string;
}
export interface TextFamily extends Common<TextModel> {
  readonly kind: "text";
}
export interface ImageFamily extends Common<VisionMamba> {
  readonly kind: "image";
}
export type Family = TextFamily | ImageFamily;

const own = (name: string, tensor: Tensor, _: string, dtype: DType = tensor.dtype): TensorToWrite[] => [
  tensorToWrite(name, tensor, dtype),
];

const noGguf = (): never => {
  throw new ConfigError("convert: llama.cpp has no such model", { hint: "write safetensors: give a folder as --out" });
};

function only(naming: string, has: string): void {
  if (naming !== has) throw new ConfigError(`convert: this model has no names but ${has}'s`);
}

const mambaState = ({ nLayer, dInner, dState, dConv }: Mamba["config"]) => {
  const bytes = nLayer * dInner * (dState + dConv - 1) * 4;
  return () => bytes;
};

const mamba: TextFamily = {
  kind: "text",
  name: "mamba",
  describe(json, source) {
    const model = new Mamba(mambaConfigOf(json, source));
    return { config: model.config, naming: detectNaming(source).name, model, stateBytes: mambaState(model.config) };
  },
  load: loadMambaFrom,
  write: (name, tensor, naming, dtype) =>
    own((namings[naming as Naming] ?? namings.transformers).toFile(name), tensor, naming, dtype),
  gguf: (model, options) => mambaGguf(model as unknown as Mamba, options),
  configText(model, naming, dtype) {
    const { config } = model as unknown as Mamba;
    return naming === "transformers"
      ? transformersConfigText(config, dtype)
      : `${JSON.stringify(toStateSpacesConfig(config), null, 2)}\n`;
  },
};

const mambabyte: TextFamily = {
  ...mamba,
  name: "mambabyte",
  describe: (json, source) => ({ ...mamba.describe(json, source), naming: detectMambaByteNaming(source).name }),
  load: loadMambaByteFrom,
};

const jamba: TextFamily = {
  kind: "text",
  name: "jamba",
  describe(json, source) {
    const model = new Jamba(jambaConfigOf(json, source));
    const { mamba: inner, ...config } = model.config;
    const shown = { ...config, dState: inner.dState, dConv: inner.dConv, dInner: inner.dInner, dtRank: inner.dtRank };
    return {
      config: shown,
      naming: source.has("token_embd.weight") ? "gguf" : "transformers",
      model,
      stateBytes: (length) => model.stateBytes(1, length),
    };
  },
  load: loadJambaFrom,
  write: (name, tensor, _, dtype) => unstackExperts(name, tensor, dtype),
  gguf: (model, options) => jambaGguf(model as unknown as Jamba, options),
  configText(model, naming, dtype) {
    only(naming, "transformers");
    return jambaConfigText((model as unknown as Jamba).config, dtype);
  },
};

const moeMamba: TextFamily = {
  kind: "text",
  name: "moe_mamba",
  describe(json) {
    const model = new MoEMamba(parseMoEMambaConfig(json));
    const { mamba: inner, ...config } = model.config;
    return { config: { ...inner, ...config }, naming: "transformers", model, stateBytes: mambaState(inner) };
  },
  load: loadMoEMambaFrom,
  write: own,
  gguf: noGguf,
  configText(model, naming, dtype) {
    only(naming, "transformers");
    return moeMambaConfigText((model as unknown as MoEMamba).config, dtype);
  },
};

const visionMamba: ImageFamily = {
  kind: "image",
  name: "vision_mamba",
  describe(json, source) {
    const model = new VisionMamba(parseVimConfig(json, source));
    const { mamba: _, ...config } = model.config;
    return { config, naming: "vim", model };
  },
  load: loadVisionMambaFrom,
  write: own,
  gguf: noGguf,
  configText: ({ config }) => `${JSON.stringify(toVimConfig(config), null, 2)}\n`,
};

const byType: { readonly [type: string]: Family } = {
  mamba,
  falcon_mamba: mamba,
  jamba,
  moe_mamba: moeMamba,
  vision_mamba: visionMamba,
};

/** The family a checkpoint belongs to. Throws ConfigError for a model_type none of them has. */
export function familyOf(json: unknown, source: TensorSource): Family {
  const { model_type: ofHub, "general.architecture": ofGguf } = (json ?? {}) as Readonly<Record<string, unknown>>;
  const type = ofHub ?? ofGguf;
  if (typeof type === "string") {
    if (Object.hasOwn(byType, type)) return byType[type]!;
    throw new ConfigError(`config: model_type ${type} is not known`, {
      hint: `known are ${Object.keys(byType).join(", ")}`,
    });
  }
  if (isVisionMamba(source)) return visionMamba;
  if (source.has("token_embedding.weight")) return mambabyte;
  // state-spaces' files have no type either; those of bytes do not say whether the head is tied.
  const embedding = "backbone.embedding.weight";
  return source.has(embedding) && source.info(embedding).shape[0] === 256 ? mambabyte : mamba;
}

/** A text model's family. Throws ConfigError for images. */
export function expectText(family: Family): TextFamily {
  if (family.kind === "text") return family;
  throw new ConfigError(`model: ${family.name} reads images, not text`);
}
