import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type AffineSteps, associativeScan } from "./associative-scan.js";
import { SsmError } from "./errors.js";
import { between, relativeError, uniforms } from "./test-support.js";

/** h[t] = a[t] h[t-1] + b[t], and the product of the decays, one after the other. */
function inOrder({ a, b }: AffineSteps): AffineSteps {
  const out = { a: a.slice(), b: b.slice() };
  for (let t = 1; t < a.length; t++) {
    out.a[t] = a[t]! * out.a[t - 1]!;
    out.b[t] = a[t]! * out.b[t - 1]! + b[t]!;
  }
  return out;
}

describe("associativeScan", () => {
  it("is the recurrence, for every length up to 70", () => {
    for (let n = 0; n <= 70; n++) {
      const random = uniforms(n);
      const steps = { a: between(random, n, 0.5, 1), b: between(random, n, 0, 1) };
      const [got, want] = [associativeScan(steps), inOrder(steps)];
      expect(relativeError(got.a, want.a)).toBeLessThan(1e-14);
      expect(relativeError(got.b, want.b)).toBeLessThan(1e-14);
    }
  });

  it("gives prefixes that compose: a scan of the whole is the scan of the rest after that of a beginning", () => {
    fc.assert(
      fc.property(fc.integer(), fc.nat(40), fc.nat(40), (seed, left, right) => {
        const random = uniforms(seed);
        const [a, b] = [between(random, left + right), between(random, left + right)];
        const whole = associativeScan({ a, b });
        const rest = associativeScan({ a: a.slice(left), b: b.slice(left) });
        const before = left === 0 ? 0 : whole.b[left - 1]!;
        rest.a.forEach((decay, t) => {
          expect(whole.b[left + t]!).toBeCloseTo(decay * before + rest.b[t]!, 12);
        });
      }),
    );
  });

  it("leaves its arguments alone, and wants two of one length", () => {
    const steps = { a: Float64Array.of(2, 3, 5), b: Float64Array.of(1, 1, 1) };
    expect(associativeScan(steps)).toEqual({ a: Float64Array.of(2, 6, 30), b: Float64Array.of(1, 4, 21) });
    expect(steps).toEqual({ a: Float64Array.of(2, 3, 5), b: Float64Array.of(1, 1, 1) });
    expect(() => associativeScan({ a: new Float64Array(2), b: new Float64Array(3) })).toThrow(SsmError);
  });
});
