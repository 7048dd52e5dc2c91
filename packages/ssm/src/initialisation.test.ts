import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SsmError } from "./errors.js";
import { softplus } from "./functions.js";
import { deltaBias, s4dReal } from "./initialisation.js";

describe("s4dReal", () => {
  it("is log(n + 1) in every channel, so that A = -(n + 1)", () => {
    const A_log = s4dReal(3, 4); // [3, 4]
    expect(A_log).toHaveLength(12);
    for (let c = 0; c < 3; c++)
      for (let n = 0; n < 4; n++) expect(-Math.exp(A_log[c * 4 + n]!)).toBeCloseTo(-(n + 1), 14);
  });

  it("may be empty, and rejects sizes that are none", () => {
    expect(s4dReal(0, 16)).toHaveLength(0);
    expect(() => s4dReal(1.5, 2)).toThrow("s4dReal: dInner is 1.5");
  });
});

describe("deltaBias", () => {
  const range = { dtMin: 0.001, dtMax: 0.1, dtInitFloor: 1e-4 };
  const steps = (uniforms: number[], options = range): number[] =>
    Array.from(deltaBias(uniforms, options), (bias) => softplus(bias));

  it("gives step sizes spread evenly over the logarithms of the range", () => {
    for (const [i, want] of [0.001, 0.01, 0.1].entries()) expect(steps([0, 0.5, 1])[i]! / want).toBeCloseTo(1, 13);
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (u) => {
        const [dt] = steps([u]) as [number];
        expect(Math.log(dt / 0.001) / Math.log(100)).toBeCloseTo(u, 12);
      }),
    );
  });

  it("raises them to the floor", () => {
    const [low, high] = steps([0, 1], { ...range, dtInitFloor: 0.05 }) as [number, number];
    expect(low).toBeCloseTo(0.05, 14);
    expect(high).toBeCloseTo(0.1, 14);
  });

  it.each([
    { ...range, dtMin: 0 },
    { ...range, dtMin: 0.2 },
    { ...range, dtMax: Number.POSITIVE_INFINITY },
    { ...range, dtMin: Number.NaN },
    { ...range, dtInitFloor: -1 },
  ])("rejects %o", (options) => expect(() => deltaBias([0.5], options)).toThrow(SsmError));
});
