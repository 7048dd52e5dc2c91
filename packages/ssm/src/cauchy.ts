import { at, type Complex, type ComplexArray, complexArray, divide, mapComplex, multiply } from "./complex.js";
import { discretizeDense } from "./discretize-system.js";
import { expectSizes, SsmError } from "./errors.js";
import { irfft } from "./fft.js";
import { solve } from "./matrix.js";
import { checkSystem, type DplrSystem, denseForm, modesOf } from "./system.js";
import { truncatedOutput } from "./truncation.js";

/** Frequencies are worked on in tiles of this many: memory beside the result does not grow with the length. */
const TILE = 256;

/**
 * The convolution kernel of a DPLR system under the bilinear rule, K[l] = C A^l B for l < length, in O(rank^2 n length + length log length)
 * time and O(length) memory (arXiv:2111.00396, algorithm 1): its transform at the roots of unity is a rational function, a few Cauchy
 * sums joined by Woodbury's identity.
 * @param delta - positive
 */
export function dplrKernel(system: DplrSystem, delta: number, length: number): Float64Array {
  checkSystem("dplrKernel", system);
  expectSizes("dplrKernel", { length });
  if (!(delta > 0 && Number.isFinite(delta)))
    throw new SsmError("invalid-argument", `dplrKernel: step size ${delta} is not a positive number`);
  if (length === 0) return new Float64Array(0);
  const C = modesOf(truncatedOutput(discretizeDense("bilinear", denseForm(system), delta), length));
  return truncatedDplrKernel({ ...system, C }, delta, length);
}

/**
 * `dplrKernel` where C is already C (I - A^length), A discretized: what state-spaces/s4 keeps as its parameter.
 * With r_vw(z) = sum over modes and conjugates of v w / (z - delta Lambda),
 * transform(omega) = 2 / (1 + omega) (r_CB - r_CP (1 + r_QP)^-1 r_QB) at z = 2 (1 - omega) / (1 + omega).
 */
export function truncatedDplrKernel(system: DplrSystem, delta: number, length: number): Float64Array {
  const bins = Math.floor(length / 2) + 1;
  const spectrum = complexArray(bins);
  for (let start = 0; start < bins; start += TILE)
    spectrumTile(system, delta, length, start, Math.min(bins, start + TILE), spectrum);
  const kernel = irfft(spectrum, length);
  if (!kernel.every(Number.isFinite))
    throw new SsmError("invalid-argument", `dplrKernel: the system is unstable: its kernel of ${length} overflows`);
  return kernel;
}

function spectrumTile(
  { A, B, C, P, Q = P }: DplrSystem,
  delta: number,
  length: number,
  start: number,
  end: number,
  spectrum: ComplexArray,
): void {
  const rank = P.length;
  const conjugate = (x: ComplexArray): ComplexArray => ({ re: x.re, im: x.im.map((v) => -v) });
  const [rows, columns] = [
    [C, ...Q.map(conjugate)],
    [B, ...P],
  ];
  // Sums of (row i, column j), [rank + 1, rank + 1], at every frequency of the tile.
  const sums = rows.map((row) => columns.map((column) => pairSums(product(row, column), A, delta, length, start, end)));
  for (let k = start; k < end; k++) {
    const i = k - start;
    const half = (Math.PI * k) / length;
    const cosine = nyquistCosine(k, length);
    let value = at(sums[0]![0]!, i);
    if (rank > 0) {
      // (I + cos QP) x = QB, as a real system of twice the size; value = CB - cos CP x
      const size = 2 * rank;
      const [m, right] = [new Float64Array(size * size), new Float64Array(size)];
      for (let r = 0; r < rank; r++) {
        for (let s = 0; s < rank; s++) {
          const { re, im } = at(sums[r + 1]![s + 1]!, i);
          m[r * size + s] = m[(rank + r) * size + rank + s] = cosine * re + (r === s ? 1 : 0);
          m[r * size + rank + s] = -cosine * im;
          m[(rank + r) * size + s] = cosine * im;
        }
        [right[r], right[rank + r]] = [sums[r + 1]![0]!.re[i]!, sums[r + 1]![0]!.im[i]!];
      }
      const x = solve(m, right, size);
      for (let r = 0; r < rank; r++) {
        const part = multiply(at(sums[0]![r + 1]!, i), { re: x[r]!, im: x[rank + r]! });
        value = { re: value.re - cosine * part.re, im: value.im - cosine * part.im };
      }
    }
    // 2 / (1 + omega) = exp(i half) / cos(half); the cosine is in the sums already.
    const turned = multiply(value, { re: Math.cos(half), im: Math.sin(half) });
    [spectrum.re[k], spectrum.im[k]] = [turned.re, turned.im];
  }
}

/** cos(pi k / length), and exactly 0 at the highest frequency. */
function nyquistCosine(k: number, length: number): number {
  return 2 * k === length ? 0 : Math.cos((Math.PI * k) / length);
}

function product(a: ComplexArray, b: ComplexArray): ComplexArray {
  return mapComplex(a, (v, i) => multiply(v, at(b, i)));
}

/**
 * r(z) / cos(half) at z = 2 i tan(half), half = pi k / length: v / (z - a) and its pair together are
 * (2 Re(v) z - 2 Re(v conj(a))) / (z^2 - 2 Re(a) z + |a|^2), here with numerator and denominator multiplied by cos^2, so that nothing is
 * infinite at the highest frequency.
 */
function pairSums(
  v: ComplexArray,
  A: ComplexArray,
  delta: number,
  length: number,
  start: number,
  end: number,
): ComplexArray {
  const out = complexArray(end - start);
  for (let n = 0; n < A.re.length; n++) {
    const a: Complex = { re: delta * A.re[n]!, im: delta * A.im[n]! };
    const [vr, vi] = [delta * v.re[n]!, delta * v.im[n]!];
    const [size, both] = [a.re * a.re + a.im * a.im, -2 * (vr * a.re + vi * a.im)];
    for (let k = start; k < end; k++) {
      const c = nyquistCosine(k, length);
      const s = 2 * Math.sin((Math.PI * k) / length);
      const term = divide({ re: both * c, im: 2 * vr * s }, { re: size * c * c - s * s, im: -2 * a.re * s * c });
      out.re[k - start]! += term.re;
      out.im[k - start]! += term.im;
    }
  }
  return out;
}
