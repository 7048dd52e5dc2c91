import { describe, expect, it } from "vitest";
import { impulseResponse, isStable, transferFunction } from "./continuous.js";
import { SsmError } from "./errors.js";
import { type HippoMeasure, hippo, hippoBasis } from "./hippo.js";
import { hippoMemory, hippoReconstruct, legsError } from "./hippo-memory.js";
import { nplr } from "./nplr.js";
import { s4dInit } from "./s4d.js";
import type { DplrSystem } from "./system.js";
import { between, relativeError, uniforms } from "./test-support.js";

const measures = ["legs", "legt", "lagt", "fourier"] as const;

describe("matrices", () => {
  it.each(measures)("%s is stable, and its basis functions are what an impulse leaves", (measure) => {
    const n = 6;
    const { A, B } = hippo(measure, n);
    if (measure !== "fourier") expect(isStable({ form: "dense", A, B, C: B })).toBe(true);
    // exp(A t) B: exactly Laguerre's functions; for the windows only near their beginning, for they are truncated.
    if (measure !== "lagt") return;
    for (const age of [0, 0.4, 3]) {
      const want = hippoBasis(measure, n, age);
      for (let i = 0; i < n; i++) {
        const C = Float64Array.from({ length: n }, (_, k) => (k === i ? 1 : 0));
        expect(impulseResponse({ form: "dense", A, B, C }, [age])[0]).toBeCloseTo(want[i]!, 12);
      }
    }
  });

  it("refuse sizes and measures that do not exist", () => {
    expect(() => hippo("legs", 0)).toThrow(SsmError);
    expect(() => hippo("fourier", 5)).toThrow(SsmError);
    expect(() => hippo("legs", 2.5)).toThrow(SsmError);
    expect(() => hippo("wavelet" as HippoMeasure, 4)).toThrow(/no measure wavelet/);
    expect(() => nplr("legs", 7)).toThrow(/even/);
    expect(() => s4dInit("lin", 3)).toThrow(SsmError);
    expect(() => hippoBasis("legs", 4, 1.5)).toThrow(/age 1.5/);
  });
});

describe("memory", () => {
  const samples = between(uniforms(4), 60);
  const smooth = Float64Array.from({ length: 400 }, (_, k) => Math.sin(k / 40) + 0.3 * Math.cos(k / 11));

  it("legs: the state is the Legendre coefficients of the whole past, exactly", () => {
    const n = 7;
    const state = hippoMemory("legs", n, samples);
    // The integral of a Legendre polynomial over a sample is a difference of its neighbours.
    const integral = (i: number, x: number): number => {
      const p = (k: number): number => hippoBasis("legs", k + 1, (1 - x) / 2)[k]! / Math.sqrt(2 * k + 1);
      return i === 0 ? x : (p(i + 1) - p(i - 1)) / (2 * i + 1);
    };
    const want = Float64Array.from({ length: n }, (_, i) => {
      let sum = 0;
      for (const [k, u] of samples.entries())
        sum += u * (integral(i, (2 * (k + 1)) / samples.length - 1) - integral(i, (2 * k) / samples.length - 1));
      return (Math.sqrt(2 * i + 1) * sum) / 2;
    });
    expect(relativeError(state, want)).toBeLessThan(1e-9);
  });

  it("legs: reconstruction has the error that Parseval's equation gives, and it falls with the size of the state", () => {
    const meanSquare = smooth.reduce((s, v) => s + v * v, 0) / smooth.length;
    let before = Number.POSITIVE_INFINITY;
    for (const n of [2, 4, 8, 16, 30]) {
      const state = hippoMemory("legs", n, smooth);
      // Mean square over the past, 8 points a sample, of the signal held over its samples.
      let error = 0;
      for (const [k, u] of smooth.entries()) {
        const ages = Array.from({ length: 8 }, (_, j) => 1 - (k + (j + 0.5) / 8) / smooth.length);
        error += hippoReconstruct("legs", state, ages).reduce((s, v) => s + (v - u) ** 2, 0) / 8 / smooth.length;
      }
      const theory = legsError(meanSquare, state);
      expect(Math.abs(error - theory)).toBeLessThan(2e-5 * meanSquare + 0.02 * theory);
      expect(theory).toBeLessThan(before);
      before = theory;
    }
    expect(before).toBeLessThan(2e-3 * meanSquare);
  });

  it.each([
    ["legt", 24, 0.01],
    ["fourier", 64, 0.3],
    ["lagt", 24, 0.01],
  ] as const)("%s remembers the recent past", (measure, n, tolerance) => {
    const [delta, length] = [0.01, 1200];
    const past = (age: number): number => Math.exp(-age) * Math.cos(2 * age);
    const samples = Float64Array.from({ length }, (_, k) => past((length - k - 0.5) * delta));
    const ages = Float64Array.from({ length: 80 }, (_, k) => 0.2 + k / 50);
    const got = hippoReconstruct(measure, hippoMemory(measure, n, samples, delta), ages);
    expect(relativeError(got, ages.map(past))).toBeLessThan(tolerance);
  });

  it("refuses samples that are no numbers and steps of no length", () => {
    expect(hippoMemory("legs", 3, new Float64Array(0))).toEqual(new Float64Array(3));
    expect([...hippoMemory("legs", 3, Float64Array.of(5))]).toEqual([5, 0, 0]);
    expect(() => hippoMemory("legs", 3, Float64Array.of(1, Number.NaN))).toThrow(/samples\[1\]/);
    expect(() => hippoMemory("legt", 3, samples, 0)).toThrow(SsmError);
  });
});

describe("normal plus low rank", () => {
  it.each([...measures].flatMap((m) => [2, 4, 10, 64].map((n) => [m, n] as const)))(
    "%s of size %d is the system it came from",
    (measure, n) => {
      const { A, B } = hippo(measure, n);
      const C = between(uniforms(n), n);
      const { A: lambda, P, B: b, V } = nplr(measure, n);
      const half = n / 2;
      const row = (part: Float64Array) =>
        Float64Array.from({ length: half }, (_, k) => C.reduce((s, c, i) => s + c * part[i * half + k]!, 0));
      const dplr: DplrSystem = { form: "dplr", A: lambda, P, B: b, C: { re: row(V.re), im: row(V.im) } };
      for (const s of [
        { re: 0.5, im: 0 },
        { re: 0.1, im: 2 },
        { re: 0, im: 30 },
      ]) {
        const [got, want] = [transferFunction(dplr, s), transferFunction({ form: "dense", A, B, C }, s)];
        expect(Math.hypot(got.re - want.re, got.im - want.im)).toBeLessThan(1e-9 * (1 + Math.hypot(want.re, want.im)));
      }
    },
  );
});

it("diagonal initialisations are those of the paper", () => {
  const pi = Math.PI;
  expect([...s4dInit("lin", 6).A.im]).toEqual([0, pi, 2 * pi]);
  expect([...s4dInit("real", 6).A.re]).toEqual([-1, -2, -3]);
  expect([...s4dInit("inv", 4).A.im]).toEqual([(4 / pi) * 3, (4 / pi) * (4 / 3 - 1)]);
  expect([...s4dInit("quad", 4).A.im]).toEqual([1 / pi, 9 / pi]);
  const legs = s4dInit("legs", 8);
  expect(
    relativeError(
      legs.A.im,
      nplr("legs", 8).A.im.map((v) => -v),
    ),
  ).toBe(0);
  for (const re of legs.A.re) expect(re).toBeCloseTo(-0.5, 14);
  expect(() => s4dInit("none" as "lin", 4)).toThrow(SsmError);
});
