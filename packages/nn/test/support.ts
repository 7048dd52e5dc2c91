import type { Backend } from "@mamba-ts/backend";
import { fromHost, Rng, type Tensor } from "@mamba-ts/tensor";
import { expect } from "vitest";

export function randomTensor(backend: Backend, seed: number, shape: readonly number[], std = 1): Tensor {
  const size = shape.reduce((n, m) => n * m, 1);
  return fromHost(
    backend,
    new Rng(seed).normal(size).map((z) => std * z),
    shape,
    "float64",
  );
}

/** y = x w^T, x [rows, from], w [to, from]. */
export function project(x: ArrayLike<number>, w: ArrayLike<number>, from: number): Float64Array {
  const [rows, to] = [x.length / from, w.length / from];
  const y = new Float64Array(rows * to);
  for (let r = 0; r < rows; r++)
    for (let o = 0; o < to; o++) for (let i = 0; i < from; i++) y[r * to + o]! += x[r * from + i]! * w[o * from + i]!;
  return y;
}

/** Compares the gradient of `loss` with central differences of fourth order along two random directions per tensor, in float64. */
export async function expectGradients(
  named: readonly (readonly [string, Tensor])[],
  gradients: readonly Tensor[],
  loss: () => Promise<number>,
): Promise<void> {
  const rng = new Rng(77);
  for (const [i, [name, t]] of named.entries()) {
    const here = Float64Array.from(await t.data());
    const gradient = await gradients[i]!.data();
    const [got, want]: [number[], number[]] = [[], []];
    for (let k = 0; k < 2; k++) {
      const direction = rng.normal(t.size);
      const step = 1e-3 / Math.hypot(...direction);
      const at = async (h: number): Promise<number> => {
        t.backend.write(
          t.buf,
          here.map((x, j) => x + h * step * direction[j]!),
        );
        return loss();
      };
      want.push((8 * ((await at(1)) - (await at(-1))) - ((await at(2)) - (await at(-2)))) / (12 * step));
      got.push(direction.reduce((s, d, j) => s + d * gradient[j]!, 0));
      t.backend.write(t.buf, here);
    }
    const error = Math.hypot(...want.map((w, k) => w - got[k]!)) / Math.hypot(...want);
    expect([name, error < 1e-7 ? "agrees" : error]).toEqual([name, "agrees"]);
  }
}
