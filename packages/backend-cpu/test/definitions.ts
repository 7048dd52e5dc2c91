/** What the tests of the primitives share: each is compared with its definition, written as one loop over all indices. */
import type { Backend, Buf, DType, Operand, Shape } from "@mamba-ts/backend";
import { expect } from "vitest";
import { freeAll, relativeError, sizeOf, take, upload } from "./support.js";

/** Relative norms that one rounding of the result in each format may cost. */
export const tolerance: { readonly [K in DType]?: number } = { float32: 1e-6, float64: 1e-14, bf16: 8e-3, f16: 1e-3 };

/** Every index of a shape, row-major. */
export function indices(shape: Shape): number[][] {
  return shape.reduce<number[][]>(
    (all, n) => all.flatMap((index) => Array.from({ length: n }, (_, i) => [...index, i])),
    [[]],
  );
}

/** The element of a dense array at the end of `index`, axes of size 1 repeated. */
export function at(data: readonly number[], shape: Shape, index: readonly number[]): number {
  const own = index.slice(index.length - shape.length);
  return data[shape.reduce((position, n, d) => position * n + (n === 1 ? 0 : own[d]!), 0)]!;
}

/** A seeded source of small multiples of 1/2, which every float format holds exactly. */
export function latticeNumbers(random: (count: number) => number[]): (count: number) => number[] {
  return (count) => random(count).map((x) => Math.round(x * 4) / 2 + 0);
}

/** Runs `compute` on uploaded inputs and compares its result with `want`; exactly, where there is no rounding to do. */
export async function check(
  backend: Backend,
  inputs: readonly { readonly data: readonly number[]; readonly shape: Shape; readonly dtype: DType }[],
  compute: (...operands: Operand[]) => Buf,
  want: (...data: number[][]) => number[],
  { dtype, within }: { readonly dtype: DType; readonly within: number },
): Promise<void> {
  const operands = inputs.map(({ data, shape, dtype: own }) => upload(backend, data, shape, own));
  const seen: number[][] = [];
  for (const operand of operands) {
    const copy = backend.copy({ ...operand, strides: stridesOf(operand.shape) });
    seen.push(await take(backend, copy));
  }
  const buf = compute(...operands);
  expect(buf.dtype).toBe(dtype);
  const got = await take(backend, buf);
  const expected = want(...seen);
  expect(got.length).toBe(expected.length);
  if (within === 0) expect(got).toEqual(expected);
  else expect(relativeError(got, expected)).toBeLessThanOrEqual(within);
  freeAll(backend, operands);
}

export function stridesOf(shape: Shape): number[] {
  return shape.map((_, d) => sizeOf(shape.slice(d + 1)));
}
