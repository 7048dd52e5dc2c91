import { type KeyMap, prefixMap, type TensorSource } from "@mamba-ts/checkpoint";

/** transformers' names are the model's own. */
export const transformersNames: KeyMap = prefixMap("transformers", []);

/** state-spaces/mamba's: the embedding is in the singular. */
export const stateSpacesNames: KeyMap = prefixMap("state-spaces", [["backbone.embedding", "backbone.embeddings"]]);

export const namings = { transformers: transformersNames, "state-spaces": stateSpacesNames } as const;
export type Naming = keyof typeof namings;

/** The naming a checkpoint uses, by its embedding. */
export function detectNaming(source: TensorSource): KeyMap {
  return source.has("backbone.embedding.weight") ? stateSpacesNames : transformersNames;
}
