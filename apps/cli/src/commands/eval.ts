import { readFile } from "node:fs/promises";
import { type Backend, ConfigError, DataError, InvalidArgumentError, NonFiniteError } from "@mamba-ts/backend";
import type { TextTokenizer } from "@mamba-ts/mamba/load";
import { scope } from "@mamba-ts/tensor";
import { byteTokens, evaluate, memoryTokens } from "@mamba-ts/train";
import { familyOf, type TextModel } from "../lib/family.js";
import { expectLabels, readImages } from "../lib/image-files.js";
import { openModel, vocabSizeOf, withCheckpoint } from "../lib/model.js";
import { namingWeights } from "../lib/non-finite.js";
import { count, duration, type Output } from "../lib/output.js";
import { openTexts, textOf } from "../lib/text-files.js";
import type { WeightDType } from "../lib/weight-dtypes.js";
import { score } from "./train-images.js";

export interface EvalOptions {
  readonly model: string;
  readonly text?: string;
  readonly lambada?: string;
  readonly images?: string;
  readonly dtype?: WeightDType;
  readonly limit: number;
  readonly chunk: number;
}

interface Context {
  readonly backend: Backend;
  readonly output: Output;
  readonly signal: AbortSignal;
}

export async function evalModel(options: EvalOptions, context: Context): Promise<void> {
  const given = [options.text, options.lambada, options.images].filter((path) => path !== undefined);
  if (given.length !== 1) throw new InvalidArgumentError("eval: give one of --text, --lambada and --images");
  if (options.images !== undefined) return evalImages(options.model, options.images, context);
  const { model, tokenizer } = await openModel(options.model, context.backend, context, options.dtype);
  try {
    await namingWeights(model, () =>
      options.text !== undefined
        ? evalText(options.text, options, model, tokenizer, context)
        : evalLambada(options.lambada as string, options, model, tokenizer, context),
    );
  } finally {
    model.dispose();
  }
}

/** Accuracy of an image model on `pixels` and `labels` of a safetensors file. */
async function evalImages(folder: string, path: string, { backend, output, signal }: Context): Promise<void> {
  using model = await withCheckpoint(folder, async ({ config, source }) => {
    const family = familyOf(config, source);
    if (family.kind !== "image") throw new ConfigError(`eval: ${family.name} reads text, not images`);
    return family.load(config, source, { backend, signal });
  });
  const images = await readImages(path, backend);
  expectLabels(path, images, model.config.nClasses);
  const result = await score(model, images);
  output.result(
    `${(100 * result.accuracy).toFixed(2)} % of ${count(result.images)} images right, ${result.loss.toFixed(4)} nats per image`,
    { ...result, path },
  );
}

async function evalText(
  path: string,
  { limit, chunk }: EvalOptions,
  model: TextModel,
  tokenizer: TextTokenizer,
  { output, signal }: Context,
): Promise<void> {
  const source = await openTexts([path]);
  try {
    const isBytes = tokenizer.encode("é").length === 2 && vocabSizeOf(model) <= 264;
    const tokens = isBytes
      ? byteTokens(source)
      : memoryTokens(tokenizer.encode(textOf(path, await source.read(0, source.size))), path);
    const start = performance.now();
    const result = await evaluate(model, tokens, {
      chunk,
      limit: limit === 0 ? tokens.size : limit,
      bytesPerToken: isBytes ? 1 : source.size / tokens.size,
      signal,
      onProgress: (done, total) => {
        const seconds = (performance.now() - start) / 1000;
        output.progress(
          `${count(done)}/${count(total)} tokens, ${count(Math.round(done / seconds))} per second, ${duration(((total - done) * seconds) / done)} left`,
        );
      },
    });
    output.result(
      `${result.bitsPerByte.toFixed(4)} bits per byte, perplexity ${result.perplexity.toFixed(3)} per token, over ${count(result.tokens)} tokens of ${path}`,
      { ...result, text: path },
    );
  } finally {
    await source.close();
  }
}

/** LAMBADA (arXiv:1606.06031): is every token of the last word the most probable one? Also the perplexity of the last word. */
async function evalLambada(
  path: string,
  { limit }: EvalOptions,
  model: TextModel,
  tokenizer: TextTokenizer,
  { output, signal }: Context,
): Promise<void> {
  const lines = textOf(
    path,
    await readFile(path).catch((cause: Error) => {
      throw new DataError(`${path} cannot be read: ${cause.message}`, { cause });
    }),
  )
    .split("\n")
    .filter((line) => line.trim() !== "");
  const passages = lines.slice(0, limit === 0 ? lines.length : limit).map((line, i) => {
    try {
      const { text } = JSON.parse(line) as { text?: unknown };
      if (typeof text === "string" && text.trim().includes(" ")) return text.trim();
    } catch {}
    throw new DataError(`${path}: line ${i + 1} is no JSON object with a text of several words`);
  });
  if (passages.length === 0) throw new DataError(`${path} is empty`);
  let right = 0;
  let nats = 0;
  for (const [i, passage] of passages.entries()) {
    signal.throwIfAborted();
    const cut = passage.lastIndexOf(" ");
    const context = Array.from(tokenizer.encode(passage.slice(0, cut)));
    const word = Array.from(tokenizer.encode(passage.slice(cut)));
    const tokens = [...context, ...word];
    const logits = scope(() => model.forward([tokens.slice(0, -1)], { logits: "all" }).logits!);
    const scores = await logits.data();
    logits.dispose();
    const vocab = vocabSizeOf(model);
    let allRight = true;
    for (const [k, id] of word.entries()) {
      const row = scores.subarray((context.length - 1 + k) * vocab, (context.length + k) * vocab);
      let best = 0;
      for (let v = 1; v < vocab; v++) if (row[v]! > row[best]!) best = v;
      allRight &&= best === id;
      let total = 0;
      for (let v = 0; v < vocab; v++) total += Math.exp(row[v]! - row[best]!);
      nats += Math.log(total) + row[best]! - row[id]!;
    }
    if (!Number.isFinite(nats)) throw new NonFiniteError(`${path}: the logits of line ${i + 1} are not finite`);
    if (allRight) right++;
    output.progress(`${i + 1}/${passages.length} passages, accuracy ${((100 * right) / (i + 1)).toFixed(1)} %`);
  }
  const accuracy = right / passages.length;
  const perplexity = Math.exp(nats / passages.length);
  output.result(
    `LAMBADA: accuracy ${(100 * accuracy).toFixed(2)} %, perplexity ${perplexity.toFixed(3)} over ${passages.length} passages`,
    { accuracy, perplexity, passages: passages.length },
  );
}
