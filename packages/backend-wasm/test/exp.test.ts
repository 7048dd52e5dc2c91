import type { Backend } from "@mamba-ts/backend";
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
