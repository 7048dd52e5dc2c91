import { expectSizes, SsmError } from "./errors.js";

/**
 * What a HiPPO state remembers its input by (arXiv:2008.07669; arXiv:2206.12037):
 * - `legs`: Legendre polynomials over all of the past, which they are stretched to
 * - `legt`: Legendre polynomials over a sliding window of length 2
 * - `fourier`: sines and cosines over a sliding window of length 2
 * - `lagt`: Laguerre functions, a past that fades exponentially
 */
export type HippoMeasure = "legs" | "legt" | "lagt" | "fourier";

export interface HippoMatrices {
  /** [n, n] */
  readonly A: Float64Array;
  /** [n] */
  readonly B: Float64Array;
}

/**
 * The matrices of c' = A c + B u (of c' = (A c + B u) / t for `legs` as a memory of the whole past), in the scale that state-spaces/s4
 * uses: windows of length 2 for `legt` and `fourier`.
 * @param n - size of the state, at least 1; even for `fourier`
 */
export function hippo(measure: HippoMeasure, n: number): HippoMatrices {
  expectSizes("hippo", { n });
  if (n < 1 || (measure === "fourier" && n % 2 === 1))
    throw new SsmError("invalid-argument", `hippo: ${measure} has no state of ${n}`);
  const root = (i: number): number => Math.sqrt(2 * i + 1);
  const matrix = (f: (i: number, k: number) => number): Float64Array =>
    Float64Array.from({ length: n * n }, (_, index) => f(Math.floor(index / n), index % n));
  const vector = (f: (i: number) => number): Float64Array => Float64Array.from({ length: n }, (_, i) => f(i));
  switch (measure) {
    case "legs": // arXiv:2008.07669, theorem 2
      return { A: matrix((i, k) => (i > k ? -root(i) * root(k) : i === k ? -(i + 1) : 0)), B: vector(root) };
    case "legt": // theorem 1, for theta = 2
      return {
        A: matrix((i, k) => -0.5 * root(i) * root(k) * (i < k && (k - i) % 2 === 1 ? -1 : 1)),
        B: vector((i) => 0.5 * root(i)),
      };
    case "lagt": // theorem 3 with alpha = 0, beta = 1, in Laguerre functions
      return { A: matrix((i, k) => (i > k ? -1 : i === k ? -0.5 : 0)), B: vector(() => 1) };
    case "fourier": {
      // arXiv:2206.12037, theorem 7, at half its speed
      const B = vector((i) => (i % 2 === 1 ? 0 : i === 0 ? 1 : Math.SQRT2));
      const turn = (i: number, k: number): number =>
        i % 2 === 0 && k === i + 1 ? -(Math.PI * i) / 2 : k % 2 === 0 && i === k + 1 ? (Math.PI * k) / 2 : 0;
      return { A: matrix((i, k) => turn(i, k) - B[i]! * B[k]!), B };
    }
    default:
      throw new SsmError("invalid-argument", `hippo: there is no measure ${String(measure)}`);
  }
}

/**
 * The functions whose coefficients the state holds, at one age: u(now - age) is about sum_i c[i] basis[i].
 * @param age - for `legs` as a fraction of all of the past, 0 (now) … 1 (the beginning); for the windows 0 … 2; for `lagt` from 0 on
 * @returns [n]
 */
export function hippoBasis(measure: HippoMeasure, n: number, age: number): Float64Array {
  const end = { legs: 1, legt: 2, fourier: 2, lagt: Number.POSITIVE_INFINITY }[measure];
  if (!(age >= 0 && age <= end))
    throw new SsmError("invalid-argument", `hippoBasis: ${measure} remembers nothing of age ${age}`);
  const out = new Float64Array(n);
  if (measure === "fourier") {
    for (let i = 0; i < n; i++) {
      const angle = Math.PI * Math.floor(i / 2) * age;
      out[i] = i === 0 ? 1 : i % 2 === 0 ? Math.SQRT2 * Math.cos(angle) : Math.SQRT2 * Math.sin(angle);
    }
  } else if (measure === "lagt") {
    // (i + 1) L[i+1] = (2 i + 1 - s) L[i] - i L[i-1]
    let [before, now] = [0, 1];
    for (let i = 0; i < n; i++) {
      out[i] = Math.exp(-age / 2) * now;
      [before, now] = [now, ((2 * i + 1 - age) * now - i * before) / (i + 1)];
    }
  } else {
    const x = measure === "legs" ? 1 - 2 * age : 1 - age;
    let [before, now] = [0, 1]; // (i + 1) P[i+1] = (2 i + 1) x P[i] - i P[i-1]
    for (let i = 0; i < n; i++) {
      out[i] = Math.sqrt(2 * i + 1) * now;
      [before, now] = [now, ((2 * i + 1) * x * now - i * before) / (i + 1)];
    }
  }
  return out;
}
