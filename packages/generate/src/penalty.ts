/** Tokens that have occurred become less likely (arXiv:1909.05858). */
import { cast, compare, div, fromHost, mul, type Tensor, where } from "@mamba-ts/tensor";

export interface Penalty {
  /** Above 1 makes them less likely. */
  readonly factor: number;
  /** Per row, the tokens that have occurred, as far as the host has read them. */
  readonly seen: readonly Set<number>[];
}

/** 1 where a token has occurred in its row, else 0: int32 [batch, vocab]. */
export function seenMask({ seen }: Penalty, like: Tensor): Tensor {
  const [batch, vocab] = like.shape as [number, number];
  const mask = new Int32Array(batch * vocab);
  seen.forEach((row, r) => {
    for (const id of row) mask[r * vocab + id] = 1;
  });
  return fromHost(like.backend, mask, [batch, vocab], "int32");
}

/** Scores [batch, vocab] of tokens that have occurred, divided by the penalty where positive, multiplied where negative. */
export function penalised(scores: Tensor, mask: Tensor, { factor }: Penalty): Tensor {
  const x = cast(scores, "float32");
  return where(mask, where(compare("gt", x, 0), div(x, factor), mul(x, factor)), x);
}
