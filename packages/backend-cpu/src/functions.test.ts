import { expect, test } from "vitest";
import { erf, logSumExp, sigmoid, siluGradient, softplus, softplusGradient } from "./functions.js";

test("softplus keeps its accuracy where exp(x) is tiny, and is the identity above 20", () => {
  // log(1 + e) = e - e^2 / 2 + e^3 / 3 - ...
  for (const x of [-8, -20, -40, -700]) {
    const e = Math.exp(x);
    expect(Math.abs(softplus(x) / (e - (e * e) / 2 + e ** 3 / 3 - e ** 4 / 4) - 1)).toBeLessThan(4e-15);
  }
  expect([softplus(20.5), softplus(1000), softplusGradient(20.5)]).toEqual([20.5, 1000, 1]);
  expect(softplus(0)).toBeCloseTo(Math.LN2, 15);
  expect(softplus(Number.NaN)).toBeNaN();
});

test("sigmoid does not overflow, and derivatives match differences", () => {
  expect([sigmoid(-1000), sigmoid(1000), sigmoid(0)]).toEqual([0, 1, 0.5]);
  const slope = (f: (x: number) => number, x: number): number => (f(x + 1e-5) - f(x - 1e-5)) / 2e-5;
  for (const x of [-7, -1, 0.3, 4]) {
    expect(siluGradient(x, sigmoid(x))).toBeCloseTo(
      slope((v) => v * sigmoid(v), x),
      8,
    );
    expect(softplusGradient(x)).toBeCloseTo(slope(softplus, x), 8);
  }
});

// Values of Abramowitz and Stegun, table 7.1, and of erfc beyond it.
test("erf", () => {
  const known = [
    [0, 0],
    [0.1, 0.112462916],
    [0.5, 0.5204998778],
    [1, 0.8427007929],
    [1.9, 0.9927904292],
    [2.5, 0.999593048],
    [3, 0.9999779095],
    [7, 1],
  ] as const;
  for (const [x, y] of known) {
    expect(erf(x)).toBeCloseTo(y, 9);
    expect(erf(-x)).toBeCloseTo(-y, 9);
  }
  expect(erf(2.4999999)).toBeCloseTo(erf(2.5000001), 9);
  expect([erf(Number.POSITIVE_INFINITY), erf(Number.NEGATIVE_INFINITY)]).toEqual([1, -1]);
  expect(erf(Number.NaN)).toBeNaN();
});

test("logSumExp", () => {
  expect(logSumExp(Float64Array.of(9, 1000, 1000, 9), 1, 2)).toBeCloseTo(1000 + Math.LN2, 12);
  expect(logSumExp(new Float64Array(2).fill(Number.NEGATIVE_INFINITY), 0, 2)).toBe(Number.NEGATIVE_INFINITY);
  expect(logSumExp(new Float64Array(2), 0, 0)).toBe(Number.NEGATIVE_INFINITY);
});
