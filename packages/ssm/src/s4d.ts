import { type ComplexArray, complexArray } from "./complex.js";
import { SsmError } from "./errors.js";
import { nplr } from "./nplr.js";

/** Diagonal initialisations (arXiv:2206.11893, section 4). */
export type S4dInit = "lin" | "inv" | "legs" | "real" | "quad";

/**
 * A and B of n / 2 modes, each standing for itself and its conjugate; k = 0 … n / 2 - 1. Imaginary parts are positive here; state-spaces/s4
 * has both signs, and the kernel with C conjugated is the same.
 * - `lin`: -1/2 + i pi k, the frequencies of a Fourier series
 * - `inv`: -1/2 + i (n / pi) (n / (2 k + 1) - 1), close to those of LegS
 * - `legs`: the eigenvalues of LegS without its low-rank part, with its B
 * - `real`: -(k + 1)
 * - `quad`: -1/2 + i (2 k + 1)^2 / pi
 * B is 1 except for `legs`.
 * @param n - size of the real state, even
 */
export function s4dInit(init: S4dInit, n: number): { readonly A: ComplexArray; readonly B: ComplexArray } {
  if (!Number.isInteger(n) || n < 2 || n % 2 !== 0)
    throw new SsmError("invalid-argument", `s4dInit: a state of ${n} has no conjugate pairs`, "take an even number");
  const half = n / 2;
  if (init === "legs") {
    const { A, B } = nplr("legs", n);
    return { A: { re: A.re, im: A.im.map((v) => -v) }, B: { re: B.re, im: B.im.map((v) => -v) } };
  }
  const imaginary = {
    lin: (k: number) => Math.PI * k,
    inv: (k: number) => (n / Math.PI) * (n / (2 * k + 1) - 1),
    real: () => 0,
    quad: (k: number) => (2 * k + 1) ** 2 / Math.PI,
  }[init];
  if (imaginary === undefined) throw new SsmError("invalid-argument", `s4dInit: there is no ${String(init)}`);
  const A = complexArray(half);
  for (let k = 0; k < half; k++) {
    A.re[k] = init === "real" ? -(k + 1) : -0.5;
    A.im[k] = imaginary(k);
  }
  return { A, B: { re: new Float64Array(half).fill(1), im: new Float64Array(half) } };
}
