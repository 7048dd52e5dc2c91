import { type ComplexArray, complexArray } from "./complex.js";
import { SsmError } from "./errors.js";
import { hermitianEigen } from "./hermitian-eigen.js";
import { type HippoMatrices, type HippoMeasure, hippo } from "./hippo.js";

/** A HiPPO system in the basis that makes it diagonal plus low rank, half of each conjugate pair. */
export interface Nplr {
  /** Lambda, [n / 2], imaginary parts ascending from the most negative to 0. */
  readonly A: ComplexArray;
  /** One [n / 2] per rank: A = V (Lambda - sum_r P_r P_r*) V*. */
  readonly P: readonly ComplexArray[];
  /** V* B, [n / 2] */
  readonly B: ComplexArray;
  /** [n, n / 2]: V, columns of eigenvectors, each up to a phase. A state x becomes V* x, a row C becomes C V. */
  readonly V: ComplexArray;
}

/** The P of A + sum_r P_r P_r^T = normal, one [n] per rank. */
export function hippoLowRank(measure: HippoMeasure, { B }: HippoMatrices): Float64Array[] {
  const n = B.length;
  const parity = (p: number): Float64Array =>
    Float64Array.from({ length: n }, (_, i) => (i % 2 === p ? 0 : Math.sqrt(i + 0.5)));
  switch (measure) {
    case "legs":
      return [Float64Array.from({ length: n }, (_, i) => Math.sqrt(i + 0.5))];
    case "legt":
      return [parity(0), parity(1)];
    case "lagt":
      return [new Float64Array(n).fill(Math.SQRT1_2)];
    case "fourier":
      return [B];
  }
}

/**
 * Normal-plus-low-rank form (arXiv:2111.00396, theorem 1): A + sum_r P_r P_r^T is a multiple of the identity plus a skew-symmetric matrix,
 * which a Hermitian eigensolver diagonalises stably.
 * @param n - size of the real state, even
 */
export function nplr(measure: HippoMeasure, n: number): Nplr {
  if (!Number.isInteger(n) || n < 2 || n % 2 !== 0)
    throw new SsmError("invalid-argument", `nplr: a state of ${n} has no conjugate pairs`, "take an even number");
  const matrices = hippo(measure, n);
  const low = hippoLowRank(measure, matrices);
  const sum = matrices.A.map((v, i) => low.reduce((s, p) => s + p[Math.floor(i / n)]! * p[i % n]!, v));
  const real = sum.reduce((s, v, i) => s + (i % (n + 1) === 0 ? v : 0), 0) / n;
  // S = sum - real I is skew-symmetric, and -i S Hermitian with the eigenvalues w of S = i w.
  const skew = sum.map((v, i) => (v - sum[(i % n) * n + Math.floor(i / n)]!) / 2);
  const { values, vectors } = hermitianEigen({ re: new Float64Array(n * n), im: skew.map((v) => -v) }, n);
  const half = n / 2;
  const V = {
    re: Float64Array.from({ length: n * half }, (_, i) => vectors.re[Math.floor(i / half) * n + (i % half)]!),
    im: Float64Array.from({ length: n * half }, (_, i) => vectors.im[Math.floor(i / half) * n + (i % half)]!),
  };
  const w = values.slice(0, half);
  if (Math.abs(w[half - 1]!) <= 1e-9 * Math.abs(values[0]!)) {
    w[half - 1] = 0;
    setNullVector(V, vectors, n);
  }
  const project = (x: Float64Array): ComplexArray => {
    const out = complexArray(half);
    for (let i = 0; i < n; i++)
      for (let k = 0; k < half; k++) {
        out.re[k]! += V.re[i * half + k]! * x[i]!;
        out.im[k]! -= V.im[i * half + k]! * x[i]!;
      }
    return out;
  };
  return {
    A: { re: new Float64Array(half).fill(real), im: w },
    P: low.map(project),
    B: project(matrices.B),
    V,
  };
}

/** The null space is real and of two dimensions: with a real orthonormal basis (a, b) of it, (a + i b) / sqrt(2) stands for the pair. */
function setNullVector(V: ComplexArray, vectors: ComplexArray, n: number): void {
  const half = n / 2;
  const column = (m: Float64Array, k: number): Float64Array =>
    Float64Array.from({ length: n }, (_, i) => m[i * n + k]!);
  const basis: Float64Array[] = [];
  for (const k of [half - 1, half])
    for (const part of [vectors.re, vectors.im]) {
      const v = column(part, k);
      for (const b of basis) {
        const overlap = v.reduce((s, x, i) => s + x * b[i]!, 0);
        for (let i = 0; i < n; i++) v[i]! -= overlap * b[i]!;
      }
      const norm = Math.hypot(...v);
      if (norm > 0.3 && basis.length < 2) basis.push(v.map((x) => x / norm));
    }
  const [a, b] = basis;
  if (a === undefined || b === undefined)
    throw new SsmError("invalid-argument", "nplr: the null space is not of two dimensions");
  for (let i = 0; i < n; i++) {
    V.re[i * half + half - 1] = a[i]! * Math.SQRT1_2;
    V.im[i * half + half - 1] = b[i]! * Math.SQRT1_2;
  }
}
