/** Properties over random systems: the forms of a state space are one. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  causalConvolution,
  convolutionKernel,
  convolve,
  type DiscretizationRule,
  denseForm,
  discretizeDense,
  discretizeSystem,
  doubledOutput,
  dplrKernel,
  dplrStepper,
  recurrence,
  SsmError,
  type StateSpace,
  sampledRecurrence,
  sampledScan,
  simulate,
  stateSize,
  stepsFromTimes,
  truncatedOutput,
  untruncatedOutput,
} from "../src/index.js";
import { between, relativeError, uniforms } from "../src/test-support.js";
import { randomDense, randomDiagonal, randomDplr } from "./support.js";

const rules: readonly DiscretizationRule[] = ["zoh", "mamba", "bilinear", "euler", "backward-euler", { alpha: 0.3 }];
const arbitraryRule = fc.constantFrom(...rules);
const forms = {
  dense: randomDense,
  diagonal: randomDiagonal,
  dplr: randomDplr,
  "dplr of rank 2": (r: () => number, n: number) => randomDplr(r, n, 2),
};
const runs = { numRuns: 40 };

/** A small step keeps Euler's rule stable on these systems. */
const arguments_ = [fc.integer(), fc.integer({ min: 1, max: 6 }), fc.integer({ min: 0, max: 40 })] as const;

describe.each(Object.entries(forms))("%s", (_, make) => {
  it("convolution = recurrence = scan = dense state space, to 1e-9, with a state carried in", () => {
    fc.assert(
      fc.property(...arguments_, arbitraryRule, fc.integer({ min: 1, max: 45 }), (seed, n, length, rule, chunk) => {
        const random = uniforms(seed);
        const system = make(random, n);
        const [u, delta] = [between(random, length), 0.01 + 0.04 * random()];
        const initialState = between(random, stateSize(system));
        const discrete = discretizeSystem(rule, system, delta);
        const want = recurrence(discretizeSystem(rule, denseForm(system), delta), u, { initialState });
        const deltas = new Float64Array(length).fill(delta);
        for (const got of [
          recurrence(discrete, u, { initialState }),
          convolve(discrete, u, { initialState }),
          convolve(discrete, u, { initialState, chunk }),
          sampledScan(system, rule, u, deltas, { initialState }),
          sampledRecurrence(system, rule, u, deltas, { initialState }),
        ]) {
          expect(relativeError(got.y, want.y, 1e-3)).toBeLessThan(1e-9);
          expect(relativeError(got.finalState, want.finalState, 1e-3)).toBeLessThan(1e-9);
        }
      }),
      runs,
    );
  });

  it("irregular steps: scan = recurrence = fine regular sampling of the same held input", () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 12 }), (seed, n, length) => {
        const random = uniforms(seed);
        const system = make(random, n);
        const u = between(random, length);
        const counts = Array.from(u, () => 1 + Math.floor(7 * random()));
        const fine = 0.02;
        const deltas = Float64Array.from(counts, (k) => k * fine);
        const held = Float64Array.from(counts.flatMap((k, t) => new Array<number>(k).fill(u[t]!)));
        const regular = recurrence(discretizeSystem("zoh", system, fine), held);
        const ends = counts.map((_, t) => counts.slice(0, t + 1).reduce((a, b) => a + b, 0) - 1);
        const want = Float64Array.from(ends, (i) => regular.y[i]!);
        for (const got of [sampledRecurrence(system, "zoh", u, deltas), sampledScan(system, "zoh", u, deltas)]) {
          expect(relativeError(got.y, want, 1e-3)).toBeLessThan(1e-9);
          expect(relativeError(got.finalState, regular.finalState, 1e-3)).toBeLessThan(1e-9);
        }
      }),
      runs,
    );
  });

  it("zero-order hold is the continuous system for piecewise constant input", () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 4 }), (seed, n) => {
        const random = uniforms(seed);
        const system = make(random, n);
        const u = between(random, 4);
        const deltas = between(random, 4, 0.1, 0.7);
        const got = sampledRecurrence(system, "zoh", u, deltas);
        let state: Float64Array = new Float64Array(stateSize(system));
        for (let t = 0; t < 4; t++) {
          const piece = simulate(system, () => u[t]!, [0, deltas[t]!], { initialState: state });
          expect(Math.abs(piece.y[1]! - got.y[t]!)).toBeLessThan(1e-9);
          state = piece.states.slice(state.length);
        }
        expect(relativeError(got.finalState, state, 1e-3)).toBeLessThan(1e-9);
      }),
      runs,
    );
  });
});

describe("diagonal plus low rank", () => {
  it("Cauchy and Woodbury give the kernel of the dense system, for every length and rank", () => {
    fc.assert(
      fc.property(
        fc.integer(),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 70 }),
        fc.integer({ min: 0, max: 3 }),
        (seed, n, length, rank) => {
          const random = uniforms(seed);
          const system = randomDplr(random, n, rank);
          const delta = 0.02 + 0.3 * random();
          const want = convolutionKernel(discretizeDense("bilinear", denseForm(system), delta), length);
          expect(relativeError(dplrKernel(system, delta, length), want, 1e-3)).toBeLessThan(1e-9);
        },
      ),
      runs,
    );
  });

  it("is the diagonal system where P = 0", () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 6 }), (seed, n) => {
        const diagonal = randomDiagonal(uniforms(seed), n);
        const zero = { re: new Float64Array(n), im: new Float64Array(n) };
        const dplr: StateSpace = { ...diagonal, form: "dplr", P: [zero] };
        const want = convolutionKernel(discretizeSystem("bilinear", diagonal, 0.1), 50);
        expect(relativeError(dplrKernel(dplr, 0.1, 50), want, 1e-3)).toBeLessThan(1e-9);
      }),
      runs,
    );
  });

  it("steps without a dense matrix, by every rule of the bilinear family", () => {
    fc.assert(
      fc.property(
        fc.integer(),
        fc.integer({ min: 0, max: 3 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (seed, rank, alpha) => {
          const random = uniforms(seed);
          const system = randomDplr(random, 4, rank);
          const u = between(random, 9);
          const want = recurrence(discretizeSystem({ alpha }, system, 0.05), u);
          const step = dplrStepper({ alpha }, system, 0.05);
          const got = u.reduce<Float64Array>((x, v) => step(x, v), new Float64Array(8));
          expect(relativeError(got, want.finalState, 1e-3)).toBeLessThan(1e-9);
        },
      ),
      runs,
    );
    expect(() => dplrStepper("zoh", randomDplr(uniforms(1), 2), 0.1)).toThrow(SsmError);
  });

  it("doubles the truncated output, and takes the truncation back", () => {
    const discrete = discretizeDense("bilinear", denseForm(randomDplr(uniforms(5), 4)), 0.1);
    const [at16, at32] = [truncatedOutput(discrete, 16), truncatedOutput(discrete, 32)];
    expect(relativeError(doubledOutput(discrete, at16, 16), at32)).toBeLessThan(1e-12);
    expect(relativeError(untruncatedOutput(discrete, at16, 16), discrete.C)).toBeLessThan(1e-9);
  });
});

describe("bad input", () => {
  const system = randomDiagonal(uniforms(2), 3);
  const discrete = discretizeSystem("zoh", system, 0.1);
  const u = between(uniforms(3), 5);

  it("lengths of 0 and 1 are served", () => {
    const none = new Float64Array(0);
    for (const run of [recurrence, convolve]) {
      expect(run(discrete, none).y).toHaveLength(0);
      expect(run(discrete, none).finalState).toEqual(new Float64Array(6));
      expect(relativeError(run(discrete, u.slice(0, 1)).y, recurrence(discrete, u).y.slice(0, 1))).toBeLessThan(1e-12);
    }
    expect(sampledScan(system, "zoh", none, none).y).toHaveLength(0);
    expect(convolutionKernel(discrete, 0)).toHaveLength(0);
    expect(dplrKernel({ ...system, form: "dplr", P: [] }, 0.1, 0)).toHaveLength(0);
    expect(stepsFromTimes([])).toHaveLength(0);
    expect([...stepsFromTimes([7])]).toEqual([1]);
    expect(causalConvolution(none, u)).toEqual(new Float64Array(5));
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])("names a sample that is %s", (bad) => {
    const samples = Float64Array.of(1, bad);
    for (const run of [
      () => recurrence(discrete, samples),
      () => convolve(discrete, samples),
      () => causalConvolution(u, samples),
      () => sampledScan(system, "zoh", samples, Float64Array.of(1, 1)),
    ])
      expect(run).toThrow(/u\[1\] is/);
  });

  it("refuses negative steps; a step of 0 does nothing", () => {
    for (const form of [system, denseForm(system), { ...system, form: "dplr", P: [] } as const]) {
      expect(() => discretizeSystem("zoh", form, -0.1)).toThrow(SsmError);
      expect(() => discretizeSystem("bilinear", form, Number.NaN)).toThrow(SsmError);
      const still = recurrence(discretizeSystem("zoh", form, 0), u, { initialState: between(uniforms(4), 6) });
      expect(relativeError(still.finalState, between(uniforms(4), 6))).toBeLessThan(1e-15);
    }
    expect(() => dplrKernel({ ...system, form: "dplr", P: [] }, 0, 4)).toThrow(SsmError);
    expect(() => discretizeSystem({ alpha: 1.5 }, system, 0.1)).toThrow(/alpha 1.5/);
  });

  it("refuses time stamps that do not increase", () => {
    expect(() => stepsFromTimes([0, 1, 1])).toThrow(/times\[2\] = 1 does not come after 1/);
    expect(() => stepsFromTimes([0, 2, 1])).toThrow(SsmError);
    expect(() => stepsFromTimes([0, Number.NaN])).toThrow(SsmError);
    expect(() => stepsFromTimes([0, 1], -1)).toThrow(SsmError);
    expect([...stepsFromTimes([1, 3, 4], 0.5)]).toEqual([0.5, 2, 1]);
    expect(() => sampledRecurrence(system, "zoh", u, u.slice(1))).toThrow(SsmError);
  });

  it("refuses systems that are not square or not finite, and kernels that overflow", () => {
    const dense = denseForm(system);
    expect(() => discretizeSystem("zoh", { ...dense, A: dense.A.slice(6) }, 0.1)).toThrow(/not \[6, 6\].*square/);
    expect(() => discretizeSystem("zoh", { ...dense, C: dense.C.slice(1) }, 0.1)).toThrow(SsmError);
    expect(() => discretizeSystem("zoh", { ...dense, A: dense.A.map(() => Number.NaN) }, 0.1)).toThrow(/A\[0\] is NaN/);
    const grows = { ...system, A: { re: system.A.re.map((v) => -50 * v), im: system.A.im } };
    expect(() => convolutionKernel(discretizeSystem("zoh", grows, 1), 1e4)).toThrow(/unstable/);
    expect(recurrence(discretizeSystem("zoh", grows, 1), u).y.every(Number.isFinite)).toBe(true);
  });
});
