import { at, type ComplexArray, mapComplex, multiply } from "./complex.js";
import type { DiscreteDense, DiscreteDiagonal, DiscreteSystem } from "./discretize-system.js";
import { expectSizes, SsmError } from "./errors.js";
import { dotProduct, matVec } from "./matrix.js";
import { vandermonde } from "./vandermonde.js";

/**
 * The convolution kernel of a discrete system, K[l] = C A^l B (arXiv:2111.00396, eq. 5), without D: by Vandermonde sums for a diagonal
 * system, by repeated products for a dense one. Length 0 gives nothing.
 * Throws SsmError if the system is so unstable that the kernel overflows.
 */
export function convolutionKernel(system: DiscreteSystem, length: number): Float64Array {
  expectSizes("convolutionKernel", { length });
  const kernel = system.form === "discrete-dense" ? denseKernel(system, length) : diagonalKernel(system, length);
  if (!kernel.every(Number.isFinite))
    throw new SsmError(
      "invalid-argument",
      `convolutionKernel: the system is unstable: its kernel of ${length} overflows`,
    );
  return kernel;
}

function denseKernel({ A, B, C }: DiscreteDense, length: number): Float64Array {
  const kernel = new Float64Array(length);
  let x = B;
  for (let l = 0; l < length; l++) {
    kernel[l] = dotProduct(C, x);
    if (l + 1 < length) x = matVec(A, x);
  }
  return kernel;
}

function diagonalKernel({ A, B, C }: DiscreteDiagonal, length: number): Float64Array {
  const weights = mapComplex(C, (c, i) => multiply(c, at(B, i)));
  return vandermonde(weights, logarithms(A), length);
}

/** log z of every element; of 0, a ratio that no power brings back. */
export function logarithms(z: ComplexArray): ComplexArray {
  // 0^0 = 1 asks for a finite logarithm: exp(-1e4) is 0.
  return mapComplex(z, ({ re, im }) => ({ re: Math.max(-1e4, Math.log(Math.hypot(re, im))), im: Math.atan2(im, re) }));
}
