import { Rng } from "@mamba-ts/tensor";
import type { BatchSource } from "@mamba-ts/train";

/**
 * Facts are planted in a page of a book, in place of what stands there, and one of them is asked for at the end:
 *
 *   … of the wha{cf}swam round the … and then the shi{c -> f
 *
 * Keys and values are letters of one alphabet, which the book is full of too, and there are several facts, so that one has to find the right
 * one. The brace occurs in no book here.
 */
export const [open, close] = ["{", "}"].map((c) => c.charCodeAt(0)) as [number, number];
const letters = "abcdefgh";
export const chance = 1 / letters.length;

export interface Needle {
  /** Bytes up to and with the key that is asked for. */
  readonly tokens: Int32Array;
  readonly answer: number;
}

export interface NeedleOptions {
  readonly length: number;
  /** Where the asked fact lies: 0 at the beginning, 1 just before the question. */
  readonly depth: number;
  /** Planted in all. */
  readonly facts: number;
}

/** @param text - where pages are taken from; longer than `length` */
export function needle(text: Uint8Array, { length, depth, facts }: NeedleOptions, rng: Rng): Needle {
  const start = rng.integers(1, text.length - length)[0]!;
  const tokens = Int32Array.from(text.subarray(start, start + length));
  const slots = Math.floor((length - 2) / 4);
  const keys = shuffled(letters.length, rng).slice(0, Math.min(facts, slots));
  const values = Array.from(rng.integers(keys.length, letters.length));
  const own = Math.round(depth * (slots - 1));
  const others = shuffled(slots, rng).filter((slot) => slot !== own);
  const letter = (i: number): number => letters.charCodeAt(i);
  keys.forEach((key, i) => {
    const slot = i === 0 ? own : others[i - 1]!;
    tokens.set([open, letter(key), letter(values[i]!), close], 4 * slot);
  });
  tokens.set([open, letter(keys[0]!)], length - 2);
  return { tokens, answer: letter(values[0]!) };
}

function shuffled(n: number, rng: Rng): number[] {
  const drawn = rng.uniform(n);
  return Array.from({ length: n }, (_, i) => i).sort((a, b) => drawn[a]! - drawn[b]!);
}

/** Needles of one length at random depths; only the answer is a target. */
export function needleBatches(
  text: Uint8Array,
  options: { readonly batch: number; readonly length: number; readonly facts: number; readonly seed: number },
): BatchSource {
  const { batch, length, facts, seed } = options;
  return {
    bytesPerToken: 1,
    isContiguous: false,
    async batch(step) {
      const made = Array.from({ length: batch }, (_, b) => {
        const rng = new Rng(seed, 4096 * (step * batch + b));
        return needle(text, { length, facts, depth: rng.uniform(1)[0]! }, rng);
      });
      return {
        tokens: made.map(({ tokens, answer }) => Int32Array.of(...tokens, answer)),
        targets: made.map(() => Array.from({ length: length + 1 }, (_, t) => (t === length ? 1 : 0))),
      };
    },
  };
}
