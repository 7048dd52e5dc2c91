/** Against state-spaces/s4: see fixtures/README.md. */
import { describe, expect, it } from "vitest";
import {
  causalConvolution,
  convolutionKernel,
  type DiagonalSystem,
  type DplrSystem,
  denseForm,
  discretizeDense,
  discretizeSystem,
  dplrStepper,
  fromInterleaved,
  hippo,
  modesOf,
  nplr,
  recurrence,
  rowOf,
  truncatedDplrKernel,
  untruncatedOutput,
} from "../src/index.js";
import { relativeError } from "../src/test-support.js";
import { fixture } from "./support.js";

const matrices = fixture("hippo");

describe.each([4, 8, 32])("HiPPO of size %d", (n) => {
  it.each(["legs", "legt", "fourier"] as const)("%s: A and B to 1e-12", (measure) => {
    const { A, B } = hippo(measure, n);
    expect(relativeError(A, matrices.get(`A.${measure}.${n}`)!)).toBeLessThan(1e-12);
    expect(relativeError(B, matrices.get(`B.${measure}.${n}`)!)).toBeLessThan(1e-12);
  });

  it("normal plus low rank: eigenvalues, P and B up to a phase to 1e-9", () => {
    const mine = nplr("legs", n);
    const want = (name: string) => fromInterleaved(matrices.get(`nplr.${name}.legs.${n}`)!);
    const [w, P, B] = [want("w"), want("P"), want("B")];
    expect(relativeError(mine.A.re, w.re)).toBeLessThan(1e-9);
    expect(relativeError(mine.A.im, w.im)).toBeLessThan(1e-9);
    const clip = (v: number) => Math.max(-2, Math.min(2, v));
    for (let k = 0; k < n / 2; k++) {
      const [p, size] = [{ re: mine.P[0]!.re[k]!, im: mine.P[0]!.im[k]! }, Math.hypot(P.re[k]!, P.im[k]!)];
      expect(Math.abs(Math.hypot(p.re, p.im) / size - 1)).toBeLessThan(1e-9);
      // The phase that turns our eigenvector into theirs, found from P, must serve B too, which is clipped after.
      const phase = {
        re: (P.re[k]! * p.re + P.im[k]! * p.im) / size ** 2,
        im: (P.im[k]! * p.re - P.re[k]! * p.im) / size ** 2,
      };
      const b = { re: mine.B.re[k]!, im: mine.B.im[k]! };
      expect(Math.abs(clip(phase.re * b.re - phase.im * b.im) - B.re[k]!)).toBeLessThan(1e-9);
      expect(Math.abs(clip(phase.re * b.im + phase.im * b.re) - B.im[k]!)).toBeLessThan(1e-9);
    }
  });
});

describe.each([
  ["s4d-diag-lin-zoh", "zoh", 1e-5],
  ["s4d-diag-legs-bilinear", "bilinear", 1e-5],
  ["dplr-legs", "bilinear", 1e-4],
] as const)("%s", (name, rule, tolerance) => {
  const data = fixture(name);
  const [heads, modes, length, batch] = [3, 8, 200, 2];
  const row = (key: string, i: number, width: number) => data.get(key)!.slice(i * width, (i + 1) * width);
  const modesAt = (key: string, h: number) => fromInterleaved(row(key, h, 2 * modes));

  it("kernel, recurrence and convolution", () => {
    const [K, stepped, convolved] = [1, batch, batch].map((n) => new Float64Array(n * heads * length)) as [
      Float64Array,
      Float64Array,
      Float64Array,
    ];
    for (let h = 0; h < heads; h++) {
      const delta = Math.exp(data.get("param.inv_dt")![h]!);
      const real = row("param.A_real", h, modes).map((v) => -Math.exp(v));
      const A = { re: real, im: row("param.A_imag", h, modes).map((v) => -v) };
      let system: DiagonalSystem | DplrSystem = {
        form: "diagonal",
        A,
        B: modesAt("param.B", h),
        C: modesAt("param.C", h),
      };
      let kernel: Float64Array;
      if (data.has("param.P")) {
        const truncated: DplrSystem = { ...system, form: "dplr", P: [modesAt("param.P", h)] };
        kernel = truncatedDplrKernel(truncated, delta, length);
        const discrete = discretizeDense("bilinear", denseForm(truncated), delta);
        system = { ...truncated, C: modesOf(untruncatedOutput(discrete, rowOf(system.C), length)) };
      } else kernel = convolutionKernel(discretizeSystem(rule, system, delta), length);
      K.set(kernel, h * length);
      for (let b = 0; b < batch; b++) {
        const i = b * heads + h;
        const u = row("u", i, length);
        stepped.set(recurrence(discretizeSystem(rule, system, delta), u).y, i * length);
        convolved.set(causalConvolution(kernel, u), i * length);
        if (system.form === "dplr")
          expect(relativeError(thinSteps(system, delta, u), row2(stepped, i))).toBeLessThan(1e-11);
      }
    }
    expect(relativeError(K, data.get("K")!)).toBeLessThan(tolerance);
    expect(relativeError(stepped, data.get("y_step")!)).toBeLessThan(tolerance);
    expect(relativeError(convolved, data.get("y_conv")!)).toBeLessThan(tolerance);
  });

  const row2 = (all: Float64Array, i: number) => all.slice(i * length, (i + 1) * length);
});

/** The recurrence in O(n) a step. */
function thinSteps(system: DplrSystem, delta: number, u: Float64Array): Float64Array {
  const step = dplrStepper("bilinear", system, delta);
  const read = rowOf(system.C);
  let state: Float64Array = new Float64Array(read.length);
  return u.map((v) => {
    state = step(state, v);
    return state.reduce((s, x, i) => s + x * read[i]!, 0);
  });
}
