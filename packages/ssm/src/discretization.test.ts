import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Discretization, discretize, expm1Over } from "./discretization.js";
import { SsmError } from "./errors.js";

const rules: readonly Discretization[] = ["zoh", "mamba", "bilinear", "euler", "backward-euler"];
const finite = (min: number, max: number) => fc.double({ min, max, noNaN: true });

/** The state after `steps` steps of size T / steps, from x0, with constant input u. */
function simulate(rule: Discretization, A: number, B: number, T: number, steps: number, x0: number, u: number): number {
  const { a, b } = discretize(rule, A, B, T / steps);
  let x = x0;
  for (let i = 0; i < steps; i++) x = a * x + b * u;
  return x;
}

describe("zero-order hold", () => {
  it("solves x' = A x + B u exactly for piecewise constant input (against Runge-Kutta of fourth order)", () => {
    const piece = fc.record({ duration: finite(0.05, 1), u: finite(-2, 2) });
    fc.assert(
      fc.property(finite(-2, 0.5), finite(-2, 2), fc.array(piece, { maxLength: 5 }), (A, B, pieces) => {
        let [discrete, integrated] = [0.7, 0.7];
        for (const { duration, u } of pieces) {
          const { a, b } = discretize("zoh", A, B, duration);
          discrete = a * discrete + b * u;
          const [n, f] = [200, (x: number): number => A * x + B * u];
          for (let i = 0, h = duration / n; i < n; i++) {
            const k1 = f(integrated);
            const k2 = f(integrated + (h / 2) * k1);
            const k3 = f(integrated + (h / 2) * k2);
            integrated += (h / 6) * (k1 + 2 * k2 + 2 * k3 + f(integrated + h * k3));
          }
        }
        expect(discrete).toBeCloseTo(integrated, 8);
      }),
    );
  });

  it("does not depend on how a constant stretch is cut into steps", () => {
    fc.assert(
      fc.property(finite(-3, 0), finite(0.1, 2), fc.integer({ min: 2, max: 30 }), (A, T, steps) => {
        expect(simulate("zoh", A, 1.5, T, steps, 0.3, 1)).toBeCloseTo(simulate("zoh", A, 1.5, T, 1, 0.3, 1), 12);
      }),
    );
  });

  it("leads a stable system to -B u / A", () => {
    expect(simulate("zoh", -0.5, 3, 200, 100, 9, 2)).toBeCloseTo(12, 12);
  });

  it("has the integrator as its limit at A = 0, without cancellation near it", () => {
    expect(discretize("zoh", 0, 3, 0.5)).toEqual({ a: 1, b: 1.5 });
    for (const A of [-1e-4, -1e-8, -1e-12, -1e-300, 1e-9]) {
      const z = 0.5 * A;
      const series = 1.5 * (1 + z / 2 + z ** 2 / 6 + z ** 3 / 24);
      expect(Math.abs(discretize("zoh", A, 3, 0.5).b / series - 1)).toBeLessThan(4e-16);
    }
    expect(expm1Over(0)).toBe(1);
    expect(expm1Over(1)).toBeCloseTo(Math.E - 1, 15);
    expect(expm1Over(Number.NEGATIVE_INFINITY)).toBeCloseTo(0, 300);
  });
});

describe("the other rules", () => {
  it("mamba: the decay of the zero-order hold, the input of Euler's", () => {
    const mamba = discretize("mamba", -2, 3, 0.1);
    expect(mamba.a).toBe(discretize("zoh", -2, 3, 0.1).a);
    expect(mamba.b).toBe(discretize("euler", -2, 3, 0.1).b);
  });

  it.each([
    ["euler", 1],
    ["backward-euler", 1],
    ["mamba", 1],
    ["bilinear", 2],
  ] as const)("%s is of order %d", (rule, order) => {
    const [A, B, T, x0, u] = [-1.3, 0.7, 1, 0.4, 2];
    const exact = Math.exp(A * T) * x0 + (Math.expm1(A * T) / A) * B * u;
    const error = (steps: number): number => Math.abs(simulate(rule, A, B, T, steps, x0, u) - exact);
    expect(Math.log2(error(64) / error(128))).toBeCloseTo(order, 1);
  });

  it("bilinear keeps stable systems stable at any step, Euler does not", () => {
    fc.assert(
      fc.property(finite(-1e3, -1e-3), finite(1e-3, 1e3), (A, delta) => {
        expect(Math.abs(discretize("bilinear", A, 1, delta).a)).toBeLessThanOrEqual(1);
      }),
    );
    expect(Math.abs(discretize("euler", -3, 1, 1).a)).toBeGreaterThan(1);
  });

  it.each(rules)("%s does nothing in no time, and takes only step sizes of at least 0", (rule) => {
    expect(discretize(rule, -1, 1, 0)).toEqual({ a: 1, b: 0 });
    for (const delta of [-1e-9, Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => discretize(rule, -1, 1, delta)).toThrow(SsmError);
  });
});
