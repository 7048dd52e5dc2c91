import { InvalidArgumentError, NonFiniteError } from "@mamba-ts/backend";
import { expectSampleOptions, giveTurn, scope, type Tensor } from "@mamba-ts/tensor";
import { canReplay, ReplayedSteps } from "./replay.js";
import { Row } from "./row.js";
import { launchedSteps } from "./steps.js";
import type {
  EndReason,
  GeneratedToken,
  GenerateOptions,
  GenerationState,
  GenerativeModel,
  Tokenizer,
} from "./types.js";

/** By measurement (docs/benchmarks.md): fewer leave the device waiting for the host now and then, more gain nothing. */
const READ_AHEAD = 4;
const MOST_AHEAD = 64;

/**
 * Continues a prompt, token by token: `for await (const { text } of generate(…)) …`. Breaking out of the loop frees everything; an abort
 * rejects within one token. The generator returns why it ended.
 * Throws InvalidArgumentError for an empty prompt or an option out of range, NonFiniteError if the logits are not finite.
 * @param prompt - a text, or token ids
 */
export async function* generate<S extends GenerationState>(
  model: GenerativeModel<S>,
  tokenizer: Tokenizer,
  prompt: string | ArrayLike<number>,
  options: GenerateOptions<S> = {},
): AsyncGenerator<GeneratedToken, EndReason, void> {
  const rows = generateBatch(model, tokenizer, [prompt], options);
  try {
    for (;;) {
      const { done, value } = await rows.next();
      if (done === true) return value[0]!;
      yield value[0]!;
    }
  } finally {
    await rows.return([]);
  }
}

/**
 * Continues several prompts at once. Each step yields one token per row, undefined for rows that have ended; shorter prompts are padded
 * on the left, which changes nothing of their result.
 */
export async function* generateBatch<S extends GenerationState>(
  model: GenerativeModel<S>,
  tokenizer: Tokenizer,
  prompts: readonly (string | ArrayLike<number>)[],
  options: GenerateOptions<S> = {},
): AsyncGenerator<(GeneratedToken | undefined)[], EndReason[], void> {
  const { maxTokens = 128, stop = [], seed = 0, repetitionPenalty = 1, prefillChunk = 1024, signal } = options;
  const { readAhead = READ_AHEAD } = options;
  if (!Number.isInteger(maxTokens) || maxTokens < 0)
    throw new InvalidArgumentError(`generate: maxTokens is ${maxTokens}`);
  if (!(repetitionPenalty > 0))
    throw new InvalidArgumentError(`generate: repetitionPenalty is ${repetitionPenalty}, not positive`);
  if (!Number.isInteger(prefillChunk) || prefillChunk < 1)
    throw new InvalidArgumentError(`generate: prefillChunk is ${prefillChunk}`);
  if (!Number.isInteger(readAhead) || readAhead < 0 || readAhead > MOST_AHEAD)
    throw new InvalidArgumentError(`generate: readAhead is ${readAhead}, not an integer from 0 to ${MOST_AHEAD}`);
  // Before anything is read: a state that was given has not advanced when an option is refused.
  expectSampleOptions(options);
  if (stop.includes("")) throw new InvalidArgumentError("generate: a stop string is empty");
  const ids = prompts.map((prompt, r) => {
    const row = Array.from(typeof prompt === "string" ? tokenizer.encode(prompt) : prompt);
    if (row.length === 0)
      throw new InvalidArgumentError(`generate: prompt ${r} is empty`, {
        hint: "give at least one token to continue from",
      });
    return row;
  });
  if (ids.length === 0) throw new InvalidArgumentError("generate: there are no prompts");
  const rows = ids.map(() => new Row(tokenizer, stop, options.eosId ?? tokenizer.eosId));
  if (maxTokens === 0) return rows.map(() => "length");
  const state = options.state ?? model.createState(ids.length, { capacity: Math.max(...ids.map((row) => row.length)) });
  const penalty =
    repetitionPenalty === 1 ? undefined : { factor: repetitionPenalty, seen: ids.map((row) => new Set(row)) };
  const from = {
    model,
    state,
    logits: await prefill(model, state, ids, options),
    penalty,
    options: { ...options, seed },
  };
  // Only a state of our own may be ahead of the tokens that have been given out.
  const ahead = options.state === undefined ? readAhead : 0;
  const steps = canReplay(from) ? new ReplayedSteps(from, { limit: maxTokens, ahead }) : launchedSteps(from);
  try {
    for (let step = 0; ; step++) {
      signal?.throwIfAborted();
      const { tokens, logprobs } = await steps.next();
      const isLast = step + 1 === maxTokens;
      const made = rows.map((row, r) => {
        if (row.reason !== undefined) return undefined;
        const id = tokens[r]!;
        if (!Number.isFinite(logprobs[r]!))
          throw new NonFiniteError(`generate: the logits of row ${r} are not finite at token ${step}`, {
            hint: "the weights hold NaN or infinity",
          });
        penalty?.seen[r]?.add(id);
        return { id, text: row.take(id, isLast), logprob: logprobs[r]! };
      });
      yield made;
      if (rows.every((row) => row.reason !== undefined)) return rows.map((row) => row.reason!);
    }
  } finally {
    steps[Symbol.dispose]();
    if (options.state === undefined) state[Symbol.dispose]();
  }
}

/** Reads the prompts in chunks; the logits after the last token. Padding on the left is told to the model as segment -1. */
async function prefill<S extends GenerationState>(
  model: GenerativeModel<S>,
  state: S,
  ids: readonly number[][],
  options: GenerateOptions<S>,
): Promise<Tensor> {
  const { prefillChunk = 1024, signal, onPrefill } = options;
  const longest = Math.max(...ids.map((row) => row.length));
  const isPadded = ids.some((row) => row.length < longest);
  const padded = ids.map((row) => [...new Array<number>(longest - row.length).fill(0), ...row]);
  // The prompt continues whatever segment a given state is in.
  const idOf = (r: number): number => Math.max(0, state.segments?.[r] ?? 0);
  const segments = ids.map((row, r) => [
    ...new Array<number>(longest - row.length).fill(-1),
    ...new Array<number>(row.length).fill(idOf(r)),
  ]);
  const cut = (all: readonly number[][], start: number, end: number): number[][] =>
    all.map((row) => row.slice(start, end));
  try {
    for (let start = 0; ; start += prefillChunk) {
      signal?.throwIfAborted();
      const end = Math.min(longest, start + prefillChunk);
      const isLast = end === longest;
      const logits = scope(
        () =>
          model.forward(cut(padded, start, end), {
            state,
            into: state,
            segments: isPadded ? cut(segments, start, end) : undefined,
            logits: isLast ? "last" : "none",
            dtype: options.dtype,
          }).logits,
      );
      onPrefill?.(end, longest);
      if (logits !== undefined) return logits;
      // A prompt is not read further ahead than the device has come; and an abort has its turn.
      await model.backend.synchronize();
      await giveTurn();
    }
  } catch (error) {
    if (options.state === undefined) state[Symbol.dispose]();
    throw error;
  }
}
