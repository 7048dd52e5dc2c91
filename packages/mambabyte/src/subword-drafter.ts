import { InvalidArgumentError } from "@mamba-ts/backend";
import type { Mamba, MambaState } from "@mamba-ts/mamba";
import { scope } from "@mamba-ts/tensor";
import type { BytePairs } from "./byte-pairs.js";

export interface SubwordDrafterOptions {
  /** Subwords per draft at most; 3 by default, as in the paper. */
  readonly subwords?: number;
  /**
   * A draft ends before the subword with which its probability under the drafter falls below this, in [0, 1): what is unlikely to be kept is
   * not worth verifying. 0, as in the paper, never ends one early; 0.3 by default.
   */
  readonly minProbability?: number;
}

/** The drafter after some subwords: its state, and what it thinks of every subword that could be next. */
interface Node {
  readonly state: MambaState;
  readonly scores: ArrayLike<number>;
}

/** One draft: `nodes[i]` has read the draft's first i subwords; the last subword is not read. */
interface Draft {
  readonly nodes: readonly Node[];
  readonly subwords: readonly number[];
}

/**
 * Drafts bytes with a model that reads subwords (section 3.2): it guesses a few subwords greedily, whose bytes the byte model verifies
 * (`generateWithDrafts` of @mamba-ts/generate, which takes this as its drafter). Where the byte model went another way, the drafter goes
 * back to the last subword that stands. Unlike the paper's it also drafts in the middle of a word: the bytes since that subword restrict the next one to
 * those that begin with them, so the byte model need not go on alone to the next boundary.
 */
export class SubwordDrafter implements Disposable {
  readonly #subwords: number;
  readonly #minProbability: number;
  #node: Node | undefined;
  /** Subwords that are decided and not read by `#node`. */
  #unread: number[] = [];
  /** Bytes that are decided and belong to no subword yet. */
  #tail: number[] = [];
  #draft: Draft | undefined;

  /** Throws InvalidArgumentError for an option out of range, or if the model's vocabulary is smaller than the encoding's. */
  constructor(
    readonly model: Mamba,
    readonly encoding: BytePairs,
    { subwords = 3, minProbability = 0.3 }: SubwordDrafterOptions = {},
  ) {
    if (!Number.isInteger(subwords) || subwords < 1) throw new InvalidArgumentError(`drafter: subwords is ${subwords}`);
    if (!(minProbability >= 0 && minProbability < 1))
      throw new InvalidArgumentError(`drafter: minProbability is ${minProbability}, not in [0, 1)`);
    if (model.config.vocabSize < encoding.vocabSize)
      throw new InvalidArgumentError(
        `drafter: the model has ${model.config.vocabSize} tokens, the encoding ${encoding.vocabSize}`,
      );
    this.#subwords = subwords;
    this.#minProbability = minProbability;
  }

  /** @param fresh - the bytes decided since the last call  @returns bytes that may follow */
  async draft(fresh: readonly number[], signal?: AbortSignal): Promise<readonly number[]> {
    this.#follow(fresh);
    if (this.#unread.length > 0) {
      const next = await this.#read(this.#node?.state, this.#unread);
      this.#node?.state.dispose();
      [this.#node, this.#unread] = [next, []];
    }
    if (this.#node === undefined) return [];
    const nodes = [this.#node];
    const subwords: number[] = [];
    const bytes: number[] = [];
    let probability = 1;
    try {
      while (subwords.length < this.#subwords) {
        signal?.throwIfAborted();
        if (subwords.length === nodes.length) nodes.push(await this.#read(nodes.at(-1)!.state, [subwords.at(-1)!]));
        const best = this.#choose(nodes.at(-1)!.scores, subwords.length === 0 ? this.#tail : []);
        probability *= best.probability;
        // Also where the scores are not numbers.
        if (!(probability >= this.#minProbability)) break;
        subwords.push(best.subword);
        bytes.push(...this.encoding.bytesOf(best.subword));
      }
    } catch (error) {
      for (const { state } of nodes.slice(1)) state.dispose();
      throw error;
    }
    this.#draft = { nodes, subwords };
    return bytes.slice(this.#tail.length);
  }

  /** The most probable subword that begins with some bytes, and its probability among those that do. */
  #choose(scores: ArrayLike<number>, beginning: readonly number[]): { subword: number; probability: number } {
    const candidates = this.encoding.beginningWith(beginning);
    let subword = -1;
    for (const id of candidates) if (subword < 0 || scores[id]! > scores[subword]!) subword = id;
    let total = 0;
    for (const id of candidates) total += Math.exp(scores[id]! - scores[subword]!);
    return { subword, probability: 1 / total };
  }

  /** The drafter after more subwords. */
  async #read(state: MambaState | undefined, subwords: readonly number[]): Promise<Node> {
    const result = scope(() => this.model.forward([subwords], { state, logits: "last" }));
    result.hidden.dispose();
    try {
      return { state: result.state, scores: await result.logits!.data() };
    } catch (error) {
      result.state.dispose();
      throw error;
    } finally {
      result.logits!.dispose();
    }
  }

  /** Takes note of what was decided: of the draft the subwords that stand are kept, and the rest is encoded. */
  #follow(fresh: readonly number[]): void {
    this.#tail.push(...fresh);
    if (this.#draft !== undefined) {
      const { nodes, subwords } = this.#draft;
      this.#draft = undefined;
      let stands = 0;
      for (; stands < subwords.length; stands++) {
        const bytes = this.encoding.bytesOf(subwords[stands]!);
        if (!bytes.every((byte, i) => byte === this.#tail[i])) break;
        this.#tail.splice(0, bytes.length);
      }
      const kept = Math.min(stands, nodes.length - 1);
      nodes.forEach(({ state }, i) => {
        if (i !== kept) state.dispose();
      });
      this.#node = nodes[kept];
      this.#unread = subwords.slice(kept, stands);
    }
    const { subwords, rest } = this.encoding.encodeOpen(this.#tail);
    this.#unread.push(...subwords);
    this.#tail = [...rest];
  }

  dispose(): void {
    for (const { state } of this.#draft?.nodes.slice(1) ?? []) state.dispose();
    this.#node?.state.dispose();
    this.#draft = this.#node = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
