import { checkpoint, concat, scope, slice, type Tensor } from "@mamba-ts/tensor";

/** No intermediate result of a group of heads exceeds this many bytes. */
const GROUP_BYTES = 2 ** 23;

/**
 * Computes something for all heads, some heads at a time where it would take too much memory at once. Groups keep nothing for the
 * gradient, which computes them again; heads do not depend on each other, so that costs one more forward, not more.
 * @param bytesPerHead - of the largest intermediate result
 * @param compute - gets a function that takes the group's part of a tensor [heads, ...]; returns [group, ...]
 */
export function byHeads(
  like: Tensor,
  heads: number,
  bytesPerHead: number,
  compute: (part: (t: Tensor) => Tensor) => Tensor,
): Tensor {
  const budget = Math.min(like.backend.limits.maxBufferBytes, GROUP_BYTES);
  const size = Math.max(1, Math.floor(budget / Math.max(1, bytesPerHead)));
  if (size >= heads) return compute((t) => t);
  const groups: Tensor[] = [];
  for (let start = 0; start < heads; start += size)
    // Where nothing is recorded, `checkpoint` has no scope of its own.
    groups.push(checkpoint(() => scope(() => compute((t) => slice(t, 0, start, start + size)))));
  return concat(groups, 0);
}

/** Bytes of one element. */
export function elementBytes({ dtype }: Tensor): number {
  return dtype === "float64" ? 8 : 4;
}
