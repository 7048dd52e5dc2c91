/**
 * Speculative decoding (arXiv:2211.17192) over an interface: something cheap drafts tokens, the model verifies a whole draft in one pass
 * from a saved state, keeps what it agrees with and goes back to the state before the rest. A state is a value, so going back costs nothing.
 */
import { type Backend, InvalidArgumentError, NonFiniteError } from "@mamba-ts/backend";
import {
  add,
  cast,
  compare,
  pick,
  reshape,
  sample,
  scope,
  slice,
  sub,
  sum,
  type Tensor,
  tensor,
  unsqueeze,
} from "@mamba-ts/tensor";
import { Row } from "./row.js";
import type { EndReason, GeneratedToken, GenerationState, Tokenizer } from "./types.js";

/** Guesses what comes next. */
export interface Drafter {
  /**
   * @param fresh - the tokens decided since the last call; in the first, the prompt
   * @returns tokens that may follow, none if it has no guess
   */
  draft(fresh: readonly number[], signal?: AbortSignal): Promise<readonly number[]>;
}

/** A model whose state is a value: `forward` leaves the one it is given as it was. Every language model of this project is one. */
export interface VerifyingModel<S extends GenerationState> {
  readonly backend: Backend;
  createState(batch: number, options?: { readonly capacity?: number }): S;
  forward(
    input: readonly ArrayLike<number>[],
    options: { readonly state: NoInfer<S>; readonly into?: NoInfer<S>; readonly logits: "all" | "none" },
  ): { readonly logits?: Tensor; readonly state: S };
}

export interface DraftOptions {
  /** Tokens to make at most; 128 by default. */
  readonly maxTokens?: number;
  /**
   * A drafted token is kept if it is among the `beta` most probable. 1, the default, gives what greedy decoding gives; more is faster and
   * no longer exact (MambaByte, arXiv:2401.13660, uses 3).
   */
  readonly beta?: number;
  /**
   * Where the drafter can start: after a token of which this is true. After a rejection the model goes on alone up to such a token, or for
   * `maxAlone` tokens. By default the drafter can start anywhere.
   */
  readonly isBoundary?: (token: number) => boolean;
  /** 32 by default. */
  readonly maxAlone?: number;
  readonly stop?: readonly string[];
  readonly eosId?: number;
  /** Prompt tokens per forward pass. */
  readonly prefillChunk?: number;
  readonly signal?: AbortSignal;
}

export interface DraftedToken extends GeneratedToken {
  /** True if it was drafted, false if the model made it itself. */
  readonly drafted: boolean;
}

export interface DraftReport {
  readonly reason: EndReason;
  /** Tokens made. */
  readonly tokens: number;
  /** Tokens that were drafted, and how many of them were kept. */
  readonly drafted: number;
  readonly accepted: number;
  /** Forward passes of the model after the prompt, and the tokens they read. */
  readonly passes: number;
  readonly read: number;
}

/** Kept tokens are read again with the next draft, up to so many; then the saved state moves up. */
const MAX_PENDING = 64;

/**
 * Continues a prompt greedily with the help of drafts. Breaking out of the loop frees everything. The generator returns what was done.
 * Throws InvalidArgumentError for an empty prompt or an option out of range, NonFiniteError if the logits are not finite.
 */
export async function* generateWithDrafts<S extends GenerationState>(
  model: VerifyingModel<S>,
  tokenizer: Tokenizer,
  drafter: Drafter,
  prompt: string | ArrayLike<number>,
  options: DraftOptions = {},
): AsyncGenerator<DraftedToken, DraftReport, void> {
  const { maxTokens = 128, beta = 1, isBoundary, maxAlone = 32, stop = [], prefillChunk = 1024, signal } = options;
  for (const [name, n, least] of [
    ["maxTokens", maxTokens, 0],
    ["beta", beta, 1],
    ["maxAlone", maxAlone, 1],
    ["prefillChunk", prefillChunk, 1],
  ] as const)
    if (!Number.isInteger(n) || n < least) throw new InvalidArgumentError(`generateWithDrafts: ${name} is ${n}`);
  const ids = Array.from(typeof prompt === "string" ? tokenizer.encode(prompt) : prompt);
  if (ids.length === 0) throw new InvalidArgumentError("generateWithDrafts: the prompt is empty");
  const row = new Row(tokenizer, stop, options.eosId ?? tokenizer.eosId);
  const count = { tokens: 0, drafted: 0, accepted: 0, passes: 0, read: 0 };
  if (maxTokens === 0) return { reason: "length", ...count };
  // The state has read everything before `pending`.
  let state = model.createState(1, { capacity: ids.length });
  let pending = ids.slice(-1);
  let fresh: number[] = ids;
  let alone = isBoundary === undefined || isBoundary(ids.at(-1)!) ? 0 : 1;
  try {
    for (let at = 0; at < ids.length - 1; at += prefillChunk) {
      signal?.throwIfAborted();
      advance(model, state, ids.slice(at, Math.min(ids.length - 1, at + prefillChunk)));
      await model.backend.synchronize();
    }
    for (;;) {
      signal?.throwIfAborted();
      let draft: readonly number[] = [];
      if (alone === 0 || alone > maxAlone) {
        draft = (await drafter.draft(fresh, signal)).slice(0, maxTokens - count.tokens);
        fresh = [];
        alone = 0;
      }
      // A drafter that starts at boundaries gets no token of the model's own behind its draft, which would cut the next word.
      const fed = isBoundary === undefined || draft.length === 0 ? draft : draft.slice(0, -1);
      const judged = await judge(model, state, pending, fed, draft, beta);
      count.passes++;
      count.read += pending.length + fed.length;
      count.drafted += draft.length;
      try {
        const { kept, own } = judged;
        count.accepted += kept;
        const isWhole = kept === draft.length;
        const made = [
          ...draft.slice(0, kept).map((id, i) => ({ id, logprob: judged.draftLogprobs[i]!, drafted: true })),
          ...(own === undefined ? [] : [{ ...own, drafted: false }]),
        ];
        if (isWhole) {
          // The new state has read all that was fed.
          state[Symbol.dispose]();
          state = judged.state;
          pending = [made.at(-1)!.id];
        } else {
          judged.state[Symbol.dispose]();
          pending = [...pending, ...made.map(({ id }) => id)];
          if (pending.length > MAX_PENDING) {
            advance(model, state, pending.slice(0, -1));
            pending = pending.slice(-1);
          }
        }
        for (const { id, logprob, drafted } of made) {
          if (!Number.isFinite(logprob))
            throw new NonFiniteError(`generateWithDrafts: the logits are not finite at token ${count.tokens}`, {
              hint: "the weights hold NaN or infinity",
            });
          count.tokens++;
          fresh.push(id);
          yield { id, logprob, drafted, text: row.take(id, count.tokens === maxTokens) };
          if (row.reason !== undefined) return { reason: row.reason, ...count };
        }
        if (isBoundary !== undefined && own !== undefined) alone = isBoundary(own.id) ? 0 : alone + 1;
      } catch (error) {
        if (judged.state !== state) judged.state[Symbol.dispose]();
        throw error;
      }
    }
  } finally {
    state[Symbol.dispose]();
  }
}

function advance<S extends GenerationState>(model: VerifyingModel<S>, state: S, ids: readonly number[]): void {
  scope(() => {
    model.forward([ids], { state, into: state, logits: "none" });
  });
}

interface Judgement<S> {
  /** After pending and all that was fed. */
  readonly state: S;
  /** How many tokens of the draft stand. */
  readonly kept: number;
  readonly draftLogprobs: readonly number[];
  /** The model's own token after those; undefined where the whole draft stands and nothing after it was looked at. */
  readonly own: { readonly id: number; readonly logprob: number } | undefined;
}

/** One pass over pending and the draft; only a few numbers per position are read back. */
async function judge<S extends GenerationState>(
  model: VerifyingModel<S>,
  state: S,
  pending: readonly number[],
  fed: readonly number[],
  draft: readonly number[],
  beta: number,
): Promise<Judgement<S>> {
  const positions = fed.length + 1;
  const result = scope(() => {
    const { logits, state: after } = model.forward([[...pending, ...fed]], { state, logits: "all" });
    const [, length, vocab] = logits!.shape as [number, number, number];
    const scores = cast(reshape(slice(logits!, 1, length - positions, length), [positions, vocab]), "float32");
    // What greedy decoding takes, and what it says of it.
    const { token: best, logprob: bestLogprob } = sample(scores, { temperature: 0 });
    if (beta === 1) return { after, best, bestLogprob };
    const guesses = tensor(
      model.backend,
      Int32Array.from({ length: positions }, (_, i) => draft[i] ?? 0),
    );
    const guessed = pick(scores, guesses); // [positions]
    return {
      after,
      best,
      bestLogprob,
      guessLogprob: add(sub(guessed, pick(scores, best)), bestLogprob),
      above: sum(cast(compare("gt", scores, unsqueeze(guessed, 1)), "float32"), 1),
    };
  });
  const { after, ...read } = result;
  try {
    const [best, bestLogprob, guessLogprob, above] = await Promise.all([
      read.best.data(),
      read.bestLogprob.data(),
      (read.guessLogprob ?? read.bestLogprob).data(),
      read.above?.data(),
    ]);
    // With beta 1 equals are told apart as greedy decoding does: the first one counts.
    const stands = (i: number): boolean => (above === undefined ? best[i] === draft[i] : above[i]! < beta);
    let kept = 0;
    while (kept < draft.length && stands(kept)) kept++;
    return {
      state: after,
      kept,
      draftLogprobs: draft.map((_, i) => guessLogprob[i]!),
      own: kept < positions ? { id: best[kept]!, logprob: bestLogprob[kept]! } : undefined,
    };
  } catch (error) {
    after[Symbol.dispose]();
    throw error;
  } finally {
    for (const t of Object.values(read)) t.dispose();
  }
}
