import type { Backend } from "@mamba-ts/backend";
import { scope, selectiveScan, tensor, zeros } from "@mamba-ts/tensor";
import { beforeAll, expect, test } from "vitest";
import { createBackend } from "../src/index.js";
import { operandOf, take } from "./support.js";

let backend: Backend;
beforeAll(async () => {
  backend = await createBackend();
});

async function compute(op: "exp" | "softplus" | "sigmoid", bits: Int32Array): Promise<number[]> {
  const x = operandOf(backend.upload(bits, "float32"), [bits.length]);
  const y = await take(backend, backend.unary(op, x));
  backend.free(x.buf);
  return y;
}

/** Distance in units of the last place of `want` as a normal float32. */
function ulps(got: number, want: number): number {
  if (Object.is(got, Math.fround(want))) return 0;
  const exponent = Math.max(-126, Math.floor(Math.log2(Math.abs(want))));
  return Math.abs(got - want) / 2 ** (exponent - 23);
}

/** Every 4999th float32 there is: all exponents, both signs, infinities and NaN among them. */
const everywhere = Int32Array.from({ length: Math.floor(2 ** 32 / 4999) }, (_, i) => i * 4999);
const values = new Float32Array(everywhere.buffer);

test("exp is within 2 ulp everywhere", async () => {
  const got = await compute("exp", everywhere);
  let worst = 0;
  for (const [i, x] of values.entries()) {
    const want = Math.exp(x);
    if (Number.isNaN(x)) expect(got[i]).toBeNaN();
    else if (Math.fround(want) === Number.POSITIVE_INFINITY) expect(got[i]).toBe(Number.POSITIVE_INFINITY);
    else worst = Math.max(worst, ulps(got[i]!, want));
  }
  expect(worst).toBeLessThan(2);
});

test("softplus and sigmoid keep their relative accuracy, tails included", async () => {
  const [softplus, sigmoid] = [await compute("softplus", everywhere), await compute("sigmoid", everywhere)];
  let worst = 0;
  for (const [i, x] of values.entries()) {
    if (Number.isNaN(x)) {
      expect([softplus[i], sigmoid[i]]).toEqual([Number.NaN, Number.NaN]);
      continue;
    }
    const e = Math.exp(-Math.abs(x));
    worst = Math.max(
      worst,
      ulps(softplus[i]!, x > 20 ? x : Math.max(0, x) + Math.log1p(e)),
      ulps(sigmoid[i]!, (x >= 0 ? 1 : e) / (1 + e)),
    );
  }
  expect(worst).toBeLessThan(4);
});

test("the scan's exp is within 2 ulp wherever its result is normal, and 1 at 0", async () => {
  // After one step of size 1 and three of size 0, without input, a state that was 1 is exp(A).
  const [length, inner, state] = [4, 512, 128];
  const count = inner * state;
  const log2e = Math.fround(Math.LOG2E);
  // Evenly over all that stays normal, and by powers down to what rounds to 1.
  const even = Float32Array.from({ length: count }, (_, i) => (-126 / log2e) * ((i + 0.5) / count));
  const small = Float32Array.from({ length: count }, (_, i) => -(2 ** (-26 + (26.5 * i) / count)));
  let worst = 0;
  for (const rates of [even, small]) {
    const result = scope(() => {
      const steps = Float32Array.from({ length: length * inner }, (_, i) => (i < inner ? 1 : 0));
      const [x, delta] = [zeros(backend, [1, length, inner]), tensor(backend, steps, [1, length, inner])];
      const [A, B] = [tensor(backend, rates, [inner, state]), zeros(backend, [1, length, state])];
      const initialState = tensor(backend, new Float32Array(count).fill(1), [1, inner, state]);
      return selectiveScan({ x, delta, A, B, C: B, initialState }).finalState;
    });
    const got = await result.data();
    result.dispose();
    for (const [i, rate] of rates.entries()) worst = Math.max(worst, ulps(got[i]!, 2 ** Math.fround(rate * log2e)));
  }
  expect(worst).toBeLessThan(2);
});
