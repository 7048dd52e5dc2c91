import { type ComplexArray, complexExp } from "./complex.js";
import { expectSizes } from "./errors.js";

/** Powers are exact at the start of a tile, and products of at most this many factors inside it. */
const TILE = 64;

/**
 * K[l] = 2 Re sum_n weights[n] exp(logRatio[n] l), l = start … start + length - 1: the kernel of a diagonal system (arXiv:2206.11893,
 * section 3.2), as a product with a Vandermonde matrix that is never formed: O(n length) time, O(length) memory.
 * @param weights - [n]: C B of the discretized system
 * @param logRatio - [n]: logarithms of its A
 */
export function vandermonde(weights: ComplexArray, logRatio: ComplexArray, length: number, start = 0): Float64Array {
  expectSizes("vandermonde", { length, start });
  const out = new Float64Array(length);
  for (let n = 0; n < weights.re.length; n++) {
    const ratio = complexExp({ re: logRatio.re[n]!, im: logRatio.im[n]! });
    for (let tile = 0; tile < length; tile += TILE) {
      const l = start + tile;
      const power = complexExp({ re: logRatio.re[n]! * l, im: logRatio.im[n]! * l });
      let re = weights.re[n]! * power.re - weights.im[n]! * power.im;
      let im = weights.re[n]! * power.im + weights.im[n]! * power.re;
      for (let i = tile; i < Math.min(length, tile + TILE); i++) {
        out[i]! += 2 * re;
        [re, im] = [re * ratio.re - im * ratio.im, re * ratio.im + im * ratio.re];
      }
    }
  }
  return out;
}
