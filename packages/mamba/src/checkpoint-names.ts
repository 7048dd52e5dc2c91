import { type KeyMap, layeredMap, prefixMap, type TensorSource } from "@mamba-ts/checkpoint";

/** transformers' names are the model's own. */
export const transformersNames: KeyMap = prefixMap("transformers", []);

/** state-spaces/mamba's: the embedding is in the singular. */
export const stateSpacesNames: KeyMap = prefixMap("state-spaces", [["backbone.embedding", "backbone.embeddings"]]);

/** llama.cpp's names of a Mamba layer's parts. @param mixer - what the model calls the mixer */
export function ggufLayerNames(mixer: string): [file: string, model: string][] {
  const parts = { in: "in_proj", conv1d: "conv1d", x: "x_proj", dt: "dt_proj", a: "A_log", d: "D", out: "out_proj" };
  return Object.entries(parts).map(([file, model]) => [`ssm_${file}`, `${mixer}.${model}`]);
}

/** llama.cpp's, in GGUF files; what `ssm_a` holds differs too, see gguf.ts. */
export const ggufNames: KeyMap = layeredMap(
  "gguf",
  ["blk.", "backbone.layers."],
  prefixMap("gguf", [["attn_norm", "norm"], ...ggufLayerNames("mixer")]),
  prefixMap("gguf", [
    ["token_embd", "backbone.embeddings"],
    ["output_norm", "backbone.norm_f"],
    ["output", "lm_head"],
  ]),
);

/** The namings of safetensors files. */
export const namings = { transformers: transformersNames, "state-spaces": stateSpacesNames } as const;
export type Naming = keyof typeof namings;

/** The naming a checkpoint uses, by its embedding. */
export function detectNaming(source: TensorSource): KeyMap {
  if (source.has("token_embd.weight")) return ggufNames;
  return source.has("backbone.embedding.weight") ? stateSpacesNames : transformersNames;
}
