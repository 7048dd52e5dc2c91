import { describe, expect, it } from "vitest";
import { randomDense, randomDiagonal, randomDplr } from "../test/support.js";
import { assertStable, frequencyResponse, impulseResponse, isStable, poles, transferFunction } from "./continuous.js";
import { SsmError } from "./errors.js";
import { simulate } from "./simulate.js";
import type { StateSpace } from "./system.js";
import { relativeError, uniforms } from "./test-support.js";

/** x' = -x / tau + u / tau, the low-pass filter. */
const lowPass: StateSpace = {
  form: "dense",
  A: Float64Array.of(-2),
  B: Float64Array.of(2),
  C: Float64Array.of(1),
};
const systems = [randomDense(uniforms(1), 5), randomDiagonal(uniforms(2), 3), randomDplr(uniforms(3), 3, 2)];

describe("frequency domain", () => {
  it("is the low pass of the textbook", () => {
    const { re, im } = frequencyResponse(lowPass, [0, 2, 20]);
    expect(re[0]).toBeCloseTo(1, 14);
    expect(Math.hypot(re[1]!, im[1]!)).toBeCloseTo(Math.SQRT1_2, 14);
    expect(Math.atan2(im[1]!, re[1]!)).toBeCloseTo(-Math.PI / 4, 14);
    expect(Math.hypot(re[2]!, im[2]!)).toBeCloseTo(1 / Math.sqrt(101), 14);
  });

  it.each(systems)("form $form: the transfer function is the impulse response's Laplace transform, and D", (system) => {
    const s = { re: 0.7, im: 3 };
    const [h, n] = [0.002, 20_000];
    const times = Float64Array.from({ length: n + 1 }, (_, k) => k * h);
    // The response by recurrence, for 20,000 matrix exponentials would take long.
    const coarse = impulseResponse(system, [0, h, 5 * h]);
    const { y } = simulate({ ...system, D: 0 }, () => 0, times, { initialState: initialOf(system) });
    expect(Math.abs(y[0]! - coarse[0]!)).toBeLessThan(1e-12);
    expect(Math.abs(y[5]! - coarse[2]!)).toBeLessThan(1e-12);
    let [re, im] = [system.D ?? 0, 0];
    for (let k = 0; k <= n; k++) {
      const weight = (k === 0 || k === n ? 1 : k % 2 === 1 ? 4 : 2) * (h / 3) * y[k]! * Math.exp(-s.re * times[k]!); // Simpson
      re += weight * Math.cos(s.im * times[k]!);
      im -= weight * Math.sin(s.im * times[k]!);
    }
    const got = transferFunction(system, s);
    expect(Math.hypot(got.re - re, got.im - im)).toBeLessThan(1e-7);
  });

  it("is steady where the input is a sine", () => {
    const [system, w] = [systems[0]!, 1.7];
    const { re, im } = frequencyResponse(system, [w]);
    const times = Float64Array.from({ length: 80 }, (_, k) => k);
    const { y } = simulate(system, (t) => Math.sin(w * t), times);
    for (let k = 75; k < 80; k++) expect(y[k]).toBeCloseTo(re[0]! * Math.sin(w * k) + im[0]! * Math.cos(w * k), 3);
  });

  it("finds poles, tells stable from unstable, and says which pole is to blame", () => {
    for (const system of systems) expect(isStable(system)).toBe(true);
    expect(isStable(lowPass, 3)).toBe(false);
    expect([...poles(lowPass).re]).toEqual([-2]);
    const integrator = { ...lowPass, A: Float64Array.of(0) };
    expect(isStable(integrator)).toBe(false);
    expect(() => assertStable({ ...lowPass, A: Float64Array.of(0.5) })).toThrow(/pole at 0.5/);
    expect(() => frequencyResponse(integrator, [1])).toThrow(SsmError);
    expect(() => transferFunction(integrator, { re: 0, im: 0 })).toThrow(SsmError);
    expect(() => frequencyResponse(lowPass, [Number.NaN])).toThrow(SsmError);
    expect(() => impulseResponse(lowPass, [-1])).toThrow(SsmError);
  });
});

/** B: the state an impulse leaves. */
function initialOf(system: StateSpace): Float64Array {
  return system.form === "dense" ? system.B : Float64Array.of(...system.B.re, ...system.B.im);
}

describe("simulate", () => {
  it("solves the low pass for inputs with known answers", () => {
    const times = [0, 0.1, 0.5, 2];
    const ramp = simulate(lowPass, (t) => t, times);
    const sine = simulate(lowPass, (t) => Math.sin(3 * t), times);
    const late = simulate(lowPass, (t) => (t < 0.3 ? 0 : 1), times);
    times.forEach((t, k) => {
      expect(ramp.y[k]).toBeCloseTo(t - 0.5 + 0.5 * Math.exp(-2 * t), 10);
      expect(sine.y[k]).toBeCloseTo((4 * Math.sin(3 * t) - 6 * Math.cos(3 * t) + 6 * Math.exp(-2 * t)) / 13, 9);
      expect(late.y[k]).toBeCloseTo(t < 0.3 ? 0 : 1 - Math.exp(-2 * (t - 0.3)), 8);
    });
  });

  it("takes stiff systems in the stride of others, and no times as nothing", () => {
    const stiff = { ...lowPass, A: Float64Array.of(-1e6), B: Float64Array.of(1e6) };
    expect(simulate(stiff, Math.cos, [0, 1, 2]).y[2]).toBeCloseTo(Math.cos(2), 5);
    expect(simulate(lowPass, Math.cos, []).y).toHaveLength(0);
    expect([...simulate(lowPass, Math.cos, [4], { initialState: Float64Array.of(3) }).y]).toEqual([3]);
  });

  it("refuses times that do not increase, inputs that are not finite, and follows growth only while it is finite", () => {
    expect(() => simulate(lowPass, Math.cos, [0, 1, 1])).toThrow(/times\[2\]/);
    expect(() => simulate(lowPass, () => Number.NaN, [0, 1])).toThrow(/input at time 0/);
    const grows = { ...lowPass, A: Float64Array.of(1) };
    expect(simulate(grows, () => 0, [0, 1], { initialState: Float64Array.of(1) }).y[1]).toBeCloseTo(Math.E, 12);
    expect(() => simulate(grows, () => 1, [0, 1000])).toThrow(SsmError);
    expect(() => simulate(lowPass, Math.cos, [0, 1], { initialState: new Float64Array(2) })).toThrow(SsmError);
  });
});

it("relative errors of the forms: a diagonal system's responses are its dense form's", () => {
  const times = [0, 0.3, 1];
  const [a, b] = [randomDiagonal(uniforms(9), 4), randomDplr(uniforms(9), 4, 0)];
  expect(relativeError(impulseResponse(a, times), impulseResponse(b, times))).toBeLessThan(1e-13);
});
