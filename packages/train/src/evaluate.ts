import { DataError, NonFiniteError } from "@mamba-ts/backend";
import { scope } from "@mamba-ts/tensor";
import type { TokenSource } from "./data.js";
import { languageModelLoss } from "./loss.js";
import type { CarriedState, LanguageModel } from "./model.js";

export interface EvaluateOptions {
  /** Tokens per forward pass; the state is carried from one to the next, so this changes the memory used and not the result. */
  readonly chunk?: number;
  /** Stop after so many tokens. */
  readonly limit?: number;
  readonly bytesPerToken?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

export interface Evaluation {
  /** Mean cross-entropy in nats per token; the first token, which nothing predicts, does not count. */
  readonly loss: number;
  readonly perplexity: number;
  readonly bitsPerByte: number;
  readonly tokens: number;
}

/**
 * How well a model predicts a text, read from front to back as one sequence. Rejects with NonFiniteError where the loss is not a finite
 * number, with the signal's reason on an abort.
 */
export async function evaluate<S extends CarriedState>(
  model: LanguageModel<S>,
  source: TokenSource,
  { chunk = 1024, limit = Number.POSITIVE_INFINITY, bytesPerToken = 1, signal, onProgress }: EvaluateOptions = {},
): Promise<Evaluation> {
  const total = Math.min(source.size - 1, limit);
  if (total < 1) throw new DataError(`${source.name}: ${source.size} tokens are too few to evaluate on`);
  let state: S | undefined;
  let nats = 0;
  try {
    for (let at = 0; at < total; at += chunk) {
      signal?.throwIfAborted();
      const n = Math.min(chunk, total - at);
      const tokens = [await source.read(at, n + 1)];
      const before = state;
      const step = scope(() => {
        const { loss, state: after } = languageModelLoss(model, { tokens }, { state: before, train: false });
        return { loss, after };
      });
      before?.[Symbol.dispose]();
      state = step.after;
      const loss = await step.loss.item();
      step.loss.dispose();
      if (!Number.isFinite(loss))
        throw new NonFiniteError(`${source.name}: the loss of tokens ${at} to ${at + n} is ${loss}`, {
          hint: "the weights hold NaN or infinity",
        });
      nats += loss * n;
      onProgress?.(at + n, total);
    }
  } finally {
    state?.[Symbol.dispose]();
  }
  const loss = nats / total;
  return { loss, perplexity: Math.exp(loss), bitsPerByte: loss / Math.LN2 / bytesPerToken, tokens: total };
}
