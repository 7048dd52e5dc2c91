import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { inverseSoftplus, sigmoid, silu, siluDerivative, softplus, softplusDerivative } from "./functions.js";

const relative = (got: number, want: number): number => Math.abs(got - want) / Math.abs(want);
const derivative = (f: (x: number) => number, x: number, h = 1e-4): number =>
  (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12 * h);
const inRange = (min: number, max: number) => fc.double({ min, max, noNaN: true });

describe("softplus", () => {
  it.each([
    [0, Math.LN2],
    [1, 1.3132616875182228],
    [-1, 0.3132616875182228],
    [-40, 4.248354255291589e-18], // exp(-40): naive log(1 + exp(x)) gives 0
    [20, 20.00000000206115],
  ])("of %d is %d", (x, want) => expect(relative(softplus(x), want)).toBeLessThan(4e-16));

  it("is the identity above 20, and nowhere else", () => {
    expect(softplus(20.000001)).toBe(20.000001);
    expect(softplus(1e300)).toBe(1e300);
    expect(softplus(20)).toBeGreaterThan(20);
  });

  it("has softplusDerivative as its derivative, 1 above 20", () => {
    fc.assert(
      fc.property(inRange(-15, 19), (x) => {
        expect(softplusDerivative(x)).toBeCloseTo(derivative(softplus, x), 9);
      }),
    );
    expect(softplusDerivative(20.5)).toBe(1);
    expect(softplusDerivative(20)).toBeLessThan(1);
  });

  it("is undone by inverseSoftplus, from tiny step sizes on", () => {
    fc.assert(
      fc.property(inRange(-40, Math.log(20)), (logarithm) => {
        const y = Math.exp(logarithm);
        expect(relative(softplus(inverseSoftplus(y)), y)).toBeLessThan(2e-14);
      }),
    );
    expect(inverseSoftplus(0)).toBe(Number.NEGATIVE_INFINITY);
    expect(inverseSoftplus(-1)).toBeNaN();
  });
});

describe("sigmoid and silu", () => {
  it("sigmoid stays finite and accurate at both ends", () => {
    expect(sigmoid(0)).toBe(0.5);
    expect(sigmoid(800)).toBe(1);
    expect(sigmoid(-800)).toBe(0);
    expect(relative(sigmoid(-700), Math.exp(-700))).toBeLessThan(1e-15);
    expect(relative(sigmoid(2), 0.8807970779778823)).toBeLessThan(4e-16);
  });

  it("sigmoid(-x) = 1 - sigmoid(x)", () => {
    fc.assert(
      fc.property(inRange(-30, 30), (x) => {
        expect(sigmoid(-x)).toBeCloseTo(1 - sigmoid(x), 14);
      }),
    );
  });

  it("silu is x sigmoid(x), with siluDerivative as its derivative", () => {
    expect(silu(1)).toBeCloseTo(0.7310585786300049, 15);
    expect(silu(-800)).toBeCloseTo(0, 300);
    expect(siluDerivative(0)).toBe(0.5);
    expect(siluDerivative(800)).toBe(1);
    expect(siluDerivative(-800)).toBeCloseTo(0, 300);
    fc.assert(
      fc.property(inRange(-20, 20), (x) => {
        expect(siluDerivative(x)).toBeCloseTo(derivative(silu, x), 9);
      }),
    );
  });
});
