import { ConfigError, type DType } from "@mamba-ts/backend";
import { type Checkpoint, type TensorSource, type TensorToWrite, tensorToWrite } from "@mamba-ts/checkpoint";
import { type Loaded, type LoadMambaOptions, type LoadOptions, loadParameters, loadWith } from "@mamba-ts/mamba/load";
import type { MoEMambaConfig, ResolvedMoEMambaConfig } from "./config.js";
import { MoEMamba } from "./model.js";

/** Reads what `moeMambaConfigText` writes: the configuration under its own names. No checkpoints of this model are published. Throws ConfigError. */
export function parseMoEMambaConfig(json: unknown): MoEMambaConfig {
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new ConfigError("config: not a JSON object");
  const { model_type: type, dtype: _, ...config } = json as { readonly [key: string]: unknown };
  if (type !== "moe_mamba") throw new ConfigError(`config: model_type ${JSON.stringify(type)} is not a MoE-Mamba`);
  for (const key of ["dModel", "nLayer", "vocabSize"])
    if (typeof config[key] !== "number")
      throw new ConfigError(`config: ${key} is ${JSON.stringify(config[key])}, not a number`);
  return config as unknown as MoEMambaConfig;
}

/** The text of a `config.json`. */
export function moeMambaConfigText({ mamba, ...own }: ResolvedMoEMambaConfig, dtype = "float32"): string {
  return `${JSON.stringify({ model_type: "moe_mamba", ...mamba, ...own, dtype }, null, 2)}\n`;
}

/** Makes a model from a configuration and tensors. Throws ConfigError, or CheckpointError naming the tensor that does not fit. */
export async function loadMoEMambaFrom(json: unknown, source: TensorSource, options: LoadOptions): Promise<MoEMamba> {
  const model = new MoEMamba(parseMoEMambaConfig(json));
  await loadParameters(model, source, options);
  return model;
}

/** Loads a model and its tokenizer from a folder (Node), a hub repository or an opened checkpoint. */
export function loadMoEMamba(from: string | Checkpoint, options: LoadMambaOptions): Promise<Loaded<MoEMamba>> {
  return loadWith(loadMoEMambaFrom, from, options);
}

/** A model's tensors, ready for a safetensors file. A_log, D, norms and the step's bias stay in float32. */
export function moeMambaTensors(model: MoEMamba, { dtype }: { readonly dtype?: DType } = {}): TensorToWrite[] {
  return [...model.namedParameters()].map(([name, parameter]) =>
    tensorToWrite(name, parameter.value, dtype === undefined ? parameter.value.dtype : parameter.dtypeIn(dtype)),
  );
}
