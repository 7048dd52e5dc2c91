import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Backend } from "@mamba-ts/backend";
import type { Mamba } from "@mamba-ts/mamba";
import { loadMamba } from "@mamba-ts/mamba/load";
import { BytePairs } from "@mamba-ts/mambabyte";

/** The byte model: the first that this repository shipped. */
export const byteModelFolder = fileURLToPath(new URL("../bytes", import.meta.url));
/** The subword model of the same size, trained on the same books by `train-drafter`. */
export const drafterFolder = fileURLToPath(new URL("../drafter", import.meta.url));

export interface Subwords {
  readonly model: Mamba;
  readonly encoding: BytePairs;
}

export async function openBytes(folder: string, backend: Backend): Promise<Mamba> {
  return (await loadMamba(folder, { backend })).model;
}

export async function openSubwords(folder: string, backend: Backend): Promise<Subwords> {
  const { model } = await loadMamba(folder, { backend });
  const encoding = BytePairs.from(JSON.parse(await readFile(join(folder, "subwords.json"), "utf8")));
  return { model, encoding };
}
