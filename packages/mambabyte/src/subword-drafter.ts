import { InvalidArgumentError } from "@mamba-ts/backend";
import type { Mamba, MambaState } from "@mamba-ts/mamba";
import { argMax, reshape, scope, tensor } from "@mamba-ts/tensor";
import type { BytePairs } from "./byte-pairs.js";

export interface SubwordDrafterOptions {
  /** Subwords per draft; 3 by default, as in the paper. */
  readonly subwords?: number;
}

/** A draft, and how to go on if all of it is kept. */
interface Draft {
  readonly bytes: readonly number[];
  readonly state: MambaState;
  /** The last subword, which the state has not read. */
  readonly last: number;
}

/**
 * Drafts bytes with a model that reads subwords (section 3.2): the subword model guesses a few subwords greedily, whose bytes the byte model
 * verifies (`generateWithDrafts` of @mamba-ts/generate, which takes this as its drafter with `isBoundary: isWordBoundary`). When the byte
 * model went another way, the subword model goes back to the state before its draft and reads what was decided instead.
 */
export class SubwordDrafter implements Disposable {
  readonly #subwords: number;
  /** Has read everything before `#pending`. */
  #state: MambaState;
  #pending: number[] = [];
  #draft: Draft | undefined;

  /** Throws InvalidArgumentError if the model's vocabulary is smaller than the encoding's. */
  constructor(
    readonly model: Mamba,
    readonly encoding: BytePairs,
    { subwords = 3 }: SubwordDrafterOptions = {},
  ) {
    if (!Number.isInteger(subwords) || subwords < 1) throw new InvalidArgumentError(`drafter: subwords is ${subwords}`);
    if (model.config.vocabSize < encoding.vocabSize)
      throw new InvalidArgumentError(
        `drafter: the model has ${model.config.vocabSize} tokens, the encoding ${encoding.vocabSize}`,
      );
    this.#subwords = subwords;
    this.#state = model.createState(1);
  }

  /** @param fresh - the bytes decided since the last call  @returns bytes that may follow */
  async draft(fresh: readonly number[], signal?: AbortSignal): Promise<readonly number[]> {
    this.#follow(fresh);
    if (this.#pending.length === 0) return [];
    const { model } = this;
    const ahead = this.#pending.slice(0, -1);
    if (ahead.length > 0) {
      scope(() => {
        model.forward([ahead], { state: this.#state, into: this.#state, logits: "none" });
      });
      this.#pending = this.#pending.slice(-1);
    }
    const state = this.#state.clone();
    const bytes: number[] = [];
    let last = this.#pending[0]!;
    try {
      for (let i = 0; i < this.#subwords; i++) {
        signal?.throwIfAborted();
        const best = scope(() => {
          const input = tensor(model.backend, Int32Array.of(last), [1, 1]);
          const { logits } = model.forward(input, { state, into: state, logits: "last" });
          return argMax(reshape(logits!, [1, model.config.vocabSize]), 1);
        });
        last = await best.item();
        best.dispose();
        // A vocabulary may be padded.
        if (last >= this.encoding.vocabSize) break;
        bytes.push(...this.encoding.bytesOf(last));
      }
    } catch (error) {
      state.dispose();
      throw error;
    }
    if (bytes.length === 0 || last >= this.encoding.vocabSize) state.dispose();
    else this.#draft = { bytes, state, last };
    return bytes;
  }

  /** Takes note of what was decided: the whole draft, or something else. */
  #follow(fresh: readonly number[]): void {
    const draft = this.#draft;
    this.#draft = undefined;
    if (
      draft !== undefined &&
      draft.bytes.length === fresh.length &&
      draft.bytes.every((byte, i) => byte === fresh[i])
    ) {
      this.#state.dispose();
      this.#state = draft.state;
      this.#pending = [draft.last];
      return;
    }
    draft?.state.dispose();
    this.#pending.push(...this.encoding.encode(Uint8Array.from(fresh)));
  }

  dispose(): void {
    this.#state.dispose();
    this.#draft?.state.dispose();
    this.#draft = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
