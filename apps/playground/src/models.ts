/** Where the page's models come from. What is needed to load one again after a lost device is kept as bytes. */
import { type Backend, UnsupportedError } from "@mamba-ts/backend";
import { ByteTokenizer } from "@mamba-ts/byte-io";
import { blobReader, memoryReader, openSafetensors } from "@mamba-ts/checkpoint";
import type { Tokenizer } from "@mamba-ts/generate";
import type { Mamba } from "@mamba-ts/mamba";
import { loadMamba } from "@mamba-ts/mamba/load";
import type { ModelSource } from "./protocol.js";

export interface LoadedModel {
  readonly name: string;
  readonly model: Mamba;
  readonly tokenizer: Tokenizer;
}

async function fetched(url: URL, signal: AbortSignal): Promise<Response> {
  const response = await fetch(url, { signal });
  if (!response.ok) throw new UnsupportedError(`${url.pathname} cannot be loaded: ${response.status}`);
  return response;
}

export async function loadModel(
  from: ModelSource,
  backend: Backend,
  signal: AbortSignal,
  onProgress: (done: number, total: number) => void,
): Promise<LoadedModel> {
  const options = {
    backend,
    signal,
    onProgress: ({ loadedTensors, totalTensors }: { loadedTensors: number; totalTensors: number }) =>
      onProgress(loadedTensors, totalTensors),
  };
  if (from.kind === "hub") {
    const { model, tokenizer } = await loadMamba(from.name, options);
    return { name: from.name, model, tokenizer: tokenizer ?? new ByteTokenizer() };
  }
  const isShipped = from.kind === "shipped";
  const config = isShipped
    ? await (await fetched(new URL("model/config.json", from.base), signal)).text()
    : from.config;
  const reader = isShipped
    ? memoryReader(await (await fetched(new URL("model/model.safetensors", from.base), signal)).arrayBuffer())
    : blobReader(from.weights);
  const source = await openSafetensors(reader, signal);
  const { model } = await loadMamba({ config: JSON.parse(config) as unknown, source, tokenizer: undefined }, options);
  if (model.config.vocabSize > 264) {
    model.dispose();
    throw new UnsupportedError(
      `this model has a vocabulary of ${model.config.vocabSize}, and no tokenizer came with it`,
      {
        hint: "load it from the hub, or give a byte-level model",
      },
    );
  }
  return { name: isShipped ? "the shipped byte-level model" : "your file", model, tokenizer: new ByteTokenizer() };
}
