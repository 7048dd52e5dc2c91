import type { Backend, DType } from "@mamba-ts/backend";
import { InvalidArgumentError } from "@mamba-ts/backend";
import { ByteTokenizer } from "@mamba-ts/byte-io";
import type { Checkpoint } from "@mamba-ts/checkpoint";
import { openCheckpoint } from "@mamba-ts/checkpoint/node";
import { loadWith, type TextTokenizer } from "@mamba-ts/mamba/load";
import { expectText, familyOf, type TextModel } from "./family.js";
import { bytes, type Output } from "./output.js";

export interface Loaded {
  readonly model: TextModel;
  readonly tokenizer: TextTokenizer;
}

/** Loads a text model with progress; models with a vocabulary of 256 and no tokenizer of their own read bytes. */
export async function openModel(
  path: string,
  backend: Backend,
  { output, signal }: { output: Output; signal: AbortSignal },
  dtype?: DType,
): Promise<Loaded> {
  const { model, tokenizer } = await loadWith(
    (json, source, options) => expectText(familyOf(json, source)).load(json, source, options),
    path,
    {
      backend,
      signal,
      ...(dtype === undefined ? {} : { dtype }),
      onProgress: ({ loadedTensors, totalTensors }) =>
        output.progress(`loading ${loadedTensors}/${totalTensors} tensors, ${bytes(backend.memory().liveBytes)}`),
    },
  );
  const dtypes = new Set([...model.namedParameters()].map(([, parameter]) => parameter.value.dtype));
  if (dtypes.size > 1) output.note(`weights in ${[...dtypes].sort().reverse().join(" and ")}`);
  if (tokenizer !== undefined) return { model, tokenizer };
  const vocabSize = vocabSizeOf(model);
  if (vocabSize >= 256 && vocabSize <= 264) return { model, tokenizer: new ByteTokenizer() };
  return { model, tokenizer: noTokenizer(path) };
}

/** Opens a folder for as long as `use` needs it. */
export async function withCheckpoint<T>(path: string, use: (checkpoint: Checkpoint) => Promise<T>): Promise<T> {
  const checkpoint = await openCheckpoint(path);
  try {
    return await use(checkpoint);
  } finally {
    await checkpoint.source.close();
  }
}

/** Rows of the head: every token, padding of the vocabulary included. */
export function vocabSizeOf(model: TextModel): number {
  return model.headWeight.shape[0]!;
}

/** Token ids still work without a tokenizer; text does not. */
function noTokenizer(path: string): TextTokenizer {
  const fail = (): never => {
    throw new InvalidArgumentError(`${path} has no tokenizer.json`, { hint: "give tokens: --prompt-tokens 1,2,3" });
  };
  return { encode: fail, decode: fail, eosId: undefined, streamDecoder: () => ({ push: () => "", flush: () => "" }) };
}
