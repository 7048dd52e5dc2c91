import { mul, type Rng, type Tensor } from "@mamba-ts/tensor";
import { constantLike } from "./complex-tensor.js";

/** Sets a share of the elements to 0 and scales the others up (inverted dropout); x itself where nothing is dropped. */
export function dropout(x: Tensor, share: number, rng: Rng | undefined): Tensor {
  if (share === 0 || rng === undefined) return x;
  const mask = rng.uniform(x.size).map((u) => (u < share ? 0 : 1 / (1 - share)));
  return mul(x, constantLike(x, mask, x.shape));
}
