import { join } from "node:path";
import type { Backend, DType } from "@mamba-ts/backend";
import { saveGguf } from "@mamba-ts/checkpoint/node";
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
