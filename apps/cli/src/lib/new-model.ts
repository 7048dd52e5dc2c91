/** Text models that `mamba train` makes from its options. All read bytes. */
import { readFile } from "node:fs/promises";
import { type Backend, ConfigError } from "@mamba-ts/backend";
import type { TensorToWrite } from "@mamba-ts/checkpoint";
import { Jamba } from "@mamba-ts/jamba";
import { jambaConfigText, jambaTensors } from "@mamba-ts/jamba/load";
import { Mamba, type MambaConfig } from "@mamba-ts/mamba";
import { mambaTensors, transformersConfigText } from "@mamba-ts/mamba/load";
import { mambaByteConfig } from "@mamba-ts/mambabyte";
import { MoEMamba } from "@mamba-ts/moe-mamba";
import { moeMambaConfigText, moeMambaTensors } from "@mamba-ts/moe-mamba/load";
import type { TextModel } from "./family.js";

export const textArchitectures = ["mamba", "mambabyte", "moe-mamba", "jamba"] as const;
export const architectures = [...textArchitectures, "vision-mamba"] as const;
export type Architecture = (typeof architectures)[number];

/** A model to train, and how to write it. */
export interface NewModel {
  readonly model: TextModel;
  /** What it was made from, for the run's record. */
  readonly config: object;
  tensors(): TensorToWrite[];
  configText(): string;
}

export interface NewModelOptions {
  readonly arch?: Architecture;
  /** A JSON file whose keys, in this project's spelling, add to or replace those of the options. */
  readonly config?: string;
  readonly dModel: number;
  readonly nLayer: number;
  readonly dState: number;
  readonly seed: number;
}

/** Throws ConfigError for a configuration that cannot be, or a model that reads no text. */
export async function newModel(options: NewModelOptions, backend: Backend): Promise<NewModel> {
  const { arch = "mamba", dModel, nLayer, dState, seed } = options;
  const extra = options.config === undefined ? {} : await readConfig(options.config);
  const base = { dModel, nLayer, dState, vocabSize: 256 };
  switch (arch) {
    case "mamba":
    case "mambabyte": {
      const config = {
        ...(arch === "mamba" ? base : mambaByteConfig({ dModel, nLayer, dState })),
        ...extra,
      } as MambaConfig;
      const model = Mamba.create(config, { backend, seed });
      return {
        model,
        config,
        tensors: () => mambaTensors(model),
        configText: () => transformersConfigText(model.config),
      };
    }
    case "moe-mamba": {
      const config = { ...base, ...extra };
      const model = MoEMamba.create(config, { backend, seed });
      return {
        model,
        config,
        tensors: () => moeMambaTensors(model),
        configText: () => moeMambaConfigText(model.config),
      };
    }
    case "jamba": {
      // Of published Jambas' proportions, for a width of a few hundred at most.
      const config = { ...base, dFeedForward: 2 * dModel, nHeads: 4, nKvHeads: 2, nExperts: 4, ...extra };
      const model = Jamba.create(config, { backend, seed });
      return { model, config, tensors: () => jambaTensors(model), configText: () => jambaConfigText(model.config) };
    }
    case "vision-mamba":
      throw new ConfigError("train: vision-mamba reads images, not text");
  }
}

/** Throws ConfigError if the file is no JSON object. */
export async function readConfig(path: string): Promise<object> {
  const text = await readFile(path, "utf8").catch((cause: Error) => {
    throw new ConfigError(`${path} cannot be read: ${cause.message}`, { cause });
  });
  try {
    const json = JSON.parse(text) as unknown;
    if (typeof json === "object" && json !== null && !Array.isArray(json)) return json;
  } catch {}
  throw new ConfigError(`${path} is no JSON object`);
}
