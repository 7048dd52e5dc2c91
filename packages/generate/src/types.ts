import type { Backend, FloatDType } from "@mamba-ts/backend";
import type { SampleOptions, Tensor, TensorOwner } from "@mamba-ts/tensor";

/** A model's memory of what it has read. */
export interface GenerationState extends TensorOwner, Disposable {
  /** Per row, the id of the segment the state is in, -1 for none; absent where a model has no segments. */
  readonly segments?: ArrayLike<number>;
}

/** What generation needs of a language model; every language model of this project is one. */
export interface GenerativeModel<S extends GenerationState> {
  readonly backend: Backend;
  /**
   * True if a step of one token a row, `into` the state that it continues, launches the same work whatever has been read: it may then be
   * recorded once and replayed (see `capture` of @mamba-ts/tensor). Not so where a cache grows or the host decides something.
   */
  readonly hasFixedStep?: boolean;
  /** @param options - capacity: tokens that will be read at least, for a state that grows with them to take its memory at once */
  createState(batch: number, options?: { readonly capacity?: number }): S;
  forward(
    input: Tensor | readonly ArrayLike<number>[],
    options: {
      readonly state: NoInfer<S>;
      readonly into: NoInfer<S>;
      readonly segments?: readonly ArrayLike<number>[] | undefined;
      readonly logits: "last" | "none";
      readonly dtype?: FloatDType | undefined;
    },
  ): { readonly logits?: Tensor };
}

/** Text to tokens and back. */
export interface Tokenizer {
  encode(text: string): ArrayLike<number>;
  /** Decodes token by token; `push` returns only text that later tokens cannot change. */
  streamDecoder(): { push(id: number): string; flush(): string };
  /** The token that ends a text, if there is one. */
  readonly eosId?: number | undefined;
}

export interface GenerateOptions<S extends GenerationState> extends Omit<SampleOptions, "counter"> {
  /** Tokens to make at most; 128 by default. */
  readonly maxTokens?: number;
  /** Tokens that have occurred, in prompt or continuation, become less likely (arXiv:1909.05858): above 1 penalises, 1 is off. */
  readonly repetitionPenalty?: number;
  /** Texts that end the continuation; they are not part of it. */
  readonly stop?: readonly string[];
  /** Ends the continuation; the tokenizer's by default, -1 for none. */
  readonly eosId?: number;
  /** Continue from this state; it advances in place and stays the caller's. Fresh by default. */
  readonly state?: S;
  /** Prompt tokens per forward pass: bounds the memory that reading a long prompt takes. */
  readonly prefillChunk?: number;
  /** What flows between the operations inside the model, see its `forward`; the stream's dtype by default. */
  readonly dtype?: FloatDType;
  /**
   * Steps that may run on the device before an earlier token has been read, 4 by default, at most 64; what they made beyond the end is
   * dropped. None for a state that was given, which is never ahead of the tokens given out, and where the backend computes on the host.
   */
  readonly readAhead?: number;
  readonly signal?: AbortSignal;
  readonly onPrefill?: (done: number, total: number) => void;
}

/** One token of a continuation. */
export interface GeneratedToken {
  readonly id: number;
  /** Text that became certain with this token; may be empty. */
  readonly text: string;
  /** Log-probability of the token under the model, before temperature and filters. */
  readonly logprob: number;
}

/** Why a continuation ended. */
export type EndReason = "length" | "stop" | "eos";
