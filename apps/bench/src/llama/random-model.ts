import { join } from "node:path";
import type { Backend, DType } from "@mamba-ts/backend";
import { saveGguf } from "@mamba-ts/checkpoint/node";
import { Jamba } from "@mamba-ts/jamba";
import { jambaGguf } from "@mamba-ts/jamba/load";
import { Mamba, type MambaConfig } from "@mamba-ts/mamba";
import { mambaGguf } from "@mamba-ts/mamba/load";

/** mamba-130m's layers, with a vocabulary of bytes. */
export const shape130m: MambaConfig = { dModel: 768, nLayer: 24, vocabSize: 256 };

/**
 * A model with random weights as a GGUF file, written as `mamba convert` writes one.
 * @returns the path
 */
export async function randomGguf(
  folder: string,
  dtype: DType,
  { backend, config = shape130m, seed = 1 }: { backend: Backend; config?: MambaConfig; seed?: number },
): Promise<string> {
  using model = Mamba.create(config, { backend, seed });
  const path = join(folder, `random-${dtype}.gguf`);
  await saveGguf(path, mambaGguf(model, { dtype, name: "random" }));
  return path;
}

/** A small Jamba with experts and attention, in float32. @returns the path */
export async function randomJamba(folder: string, { backend }: { backend: Backend }): Promise<string> {
  const shape = {
    dModel: 64,
    nLayer: 8,
    vocabSize: 256,
    dFeedForward: 128,
    nHeads: 4,
    nKvHeads: 2,
    nExperts: 4,
    maxLength: 512,
  };
  using model = Jamba.create(shape, { backend, seed: 1 });
  const path = join(folder, "random-jamba.gguf");
  await saveGguf(path, jambaGguf(model, { name: "random" }));
  return path;
}
