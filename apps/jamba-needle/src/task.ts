import { Rng } from "@mamba-ts/tensor";
import type { BatchSource } from "@mamba-ts/train";

/**
 * A fact is planted in noise and asked for at the end:
 *
 *   noise … MARK key value … noise ASK key -> value
 *
 * Keys and values are letters of one alphabet, and there are several facts, so that one has to find the right one.
 */
export const [mark, ask, alphabet, noiseTokens] = [0, 1, 8, 8] as const;
export const vocabSize = 2 + alphabet + noiseTokens;

export interface Needle {
  /** Tokens up to and with the key that is asked for. */
  readonly tokens: Int32Array;
  readonly answer: number;
}

/** @param depth - where the asked fact lies: 0 at the beginning, 1 just before the question  @param facts - planted in all */
export function needle(length: number, depth: number, facts: number, rng: Rng): Needle {
  const tokens = Int32Array.from(rng.integers(length, noiseTokens), (n) => 2 + alphabet + n);
  const room = length - 2;
  const slots = Math.floor(room / 3);
  const keys = shuffled(alphabet, rng).slice(0, Math.min(facts, slots));
  const values = Array.from(rng.integers(keys.length, alphabet));
  const own = Math.min(slots - 1, Math.round(depth * (slots - 1)));
  const others = shuffled(slots, rng).filter((slot) => slot !== own);
  keys.forEach((key, i) => {
    const at = 3 * (i === 0 ? own : others[i - 1]!);
    tokens.set([mark, 2 + key, 2 + values[i]!], at);
  });
  tokens.set([ask, 2 + keys[0]!], length - 2);
  return { tokens, answer: 2 + values[0]! };
}

function shuffled(n: number, rng: Rng): number[] {
  const drawn = rng.uniform(n);
  return Array.from({ length: n }, (_, i) => i).sort((a, b) => drawn[a]! - drawn[b]!);
}

/** Needles of one length at random depths; only the answer is a target. */
export function needleBatches({
  batch,
  length,
  facts,
  seed,
}: {
  readonly batch: number;
  readonly length: number;
  readonly facts: number;
  readonly seed: number;
}): BatchSource {
  return {
    bytesPerToken: 1,
    isContiguous: false,
    async batch(step) {
      const rng = new Rng(seed, 64 * step * batch);
      const made = Array.from({ length: batch }, () => needle(length, rng.uniform(1)[0]!, facts, rng));
      return {
        tokens: made.map(({ tokens, answer }) => Int32Array.of(...tokens, answer)),
        targets: made.map(() => Array.from({ length: length + 1 }, (_, t) => (t === length ? 1 : 0))),
      };
    },
  };
}
