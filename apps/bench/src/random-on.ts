import type { Backend } from "@mamba-ts/backend";
import { concat, keep, Rng, reshape, scope, sizeOf, slice, type Tensor, tensor } from "@mamba-ts/tensor";

/** As many random numbers as are made on the host; larger tensors repeat them, which no kernel's speed depends on. */
const DRAWN = 2 ** 20;

/** A tensor with numbers uniform in [low, high), the caller's own, without waiting for the host to draw them all. */
export function randomOn(backend: Backend, shape: readonly number[], low: number, high: number): Tensor {
  const size = sizeOf(shape);
  const drawn = new Rng(1).uniform(Math.min(size, DRAWN)).map((u) => low + (high - low) * u);
  return keep(
    scope(() => {
      let all = tensor(backend, drawn, [drawn.length], "float32");
      while (all.size < size) all = concat([all, slice(all, 0, 0, Math.min(all.size, size - all.size))], 0);
      return reshape(all, shape);
    }),
  );
}
