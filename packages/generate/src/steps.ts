import type { FloatDType } from "@mamba-ts/backend";
import { reshape, type SampleOptions, sample, scope, type Tensor } from "@mamba-ts/tensor";
import { type Penalty, penalised, seenMask } from "./penalty.js";
import type { GenerationState, GenerativeModel } from "./types.js";

/** The tokens of one step, one a row, on the host. */
export interface Drawn {
  readonly tokens: ArrayLike<number>;
  readonly logprobs: ArrayLike<number>;
}

/** Draws tokens one step after the other: each step has the model read the tokens of the one before. */
export interface Steps extends Disposable {
  next(): Promise<Drawn>;
}

/** Where a continuation starts. */
export interface StepsFrom<S extends GenerationState> {
  readonly model: GenerativeModel<S>;
  /** Has read the prompts; advances in place. */
  readonly state: S;
  /** [batch, 1, vocab], after the prompts' last tokens; taken over. */
  readonly logits: Tensor;
  readonly penalty: Penalty | undefined;
  readonly options: Omit<SampleOptions, "counter"> & { readonly dtype?: FloatDType | undefined };
}

/** Batch and vocabulary of logits [batch, 1, vocab]. */
export const rowShape = (logits: Tensor): readonly [number, number] => [logits.shape[0]!, logits.shape.at(-1)!];

/** Logits [batch, 1, vocab] as `sample` takes them. */
export const rowsOf = (logits: Tensor): Tensor => reshape(logits, rowShape(logits)); // [batch, vocab]

/** The model reads one token a row, and the state advances in place. Logits [batch, 1, vocab]. */
export function advance<S extends GenerationState>({ model, state, options }: StepsFrom<S>, token: Tensor): Tensor {
  const input = reshape(token, [token.size, 1]); // [batch, 1]
  return model.forward(input, { state, into: state, logits: "last", dtype: options.dtype }).logits!;
}

/** Every step launched anew: on any backend, for any model. */
export function launchedSteps<S extends GenerationState>(from: StepsFrom<S>): Steps {
  const { penalty, options } = from;
  let { logits } = from;
  let token: Tensor | undefined;
  let counter = 0;
  return {
    async next() {
      if (token !== undefined) {
        const [read, previous] = [token, logits];
        logits = scope(() => advance(from, read));
        for (const t of [read, previous]) t.dispose();
        token = undefined;
      }
      const drawn = scope(() => {
        const scores = rowsOf(logits);
        const fair = penalty === undefined ? scores : penalised(scores, seenMask(penalty, scores), penalty);
        return sample(fair, { ...options, counter: counter++ });
      });
      token = drawn.token;
      try {
        const [tokens, logprobs] = await Promise.all([drawn.token.data(), drawn.logprob.data()]);
        return { tokens, logprobs };
      } finally {
        drawn.logprob.dispose();
      }
    },
    [Symbol.dispose]() {
      for (const t of [logits, token]) t?.dispose();
    },
  };
}
