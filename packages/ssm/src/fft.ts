/** Fourier transforms of any length in O(n log n): radix 2 for powers of two, Bluestein's convolution for the others. */
import { type ComplexArray, complexArray } from "./complex.js";
import { SsmError } from "./errors.js";

/** X[k] = sum_j x[j] exp(-2 pi i j k / n), unnormalised; any n, 0 included. */
export function fft(x: ComplexArray): ComplexArray {
  if (x.re.length !== x.im.length)
    throw new SsmError("shape", `fft: re has ${x.re.length} elements, im ${x.im.length}`);
  const out = { re: x.re.slice(), im: x.im.slice() };
  transform(out);
  return out;
}

/** The inverse of `fft`, divided by n. */
export function ifft(x: ComplexArray): ComplexArray {
  const n = x.re.length;
  const { re, im } = fft({ re: x.im, im: x.re }); // exchanging the parts conjugates the transform
  return { re: im.map((v) => v / n), im: re.map((v) => v / n) };
}

/** The first floor(n / 2) + 1 bins of a real signal's transform; the others are their conjugates. */
export function rfft(x: Float64Array): ComplexArray {
  const n = x.length;
  if (n === 0) throw new SsmError("invalid-argument", "rfft: the signal is empty");
  const bins = Math.floor(n / 2) + 1;
  if (n % 2 === 1) {
    const { re, im } = fft({ re: x, im: new Float64Array(n) });
    return { re: re.slice(0, bins), im: im.slice(0, bins) };
  }
  // Even and odd samples as one complex signal of half the length, told apart by the symmetry of their transforms.
  const half = n / 2;
  const z = fft({
    re: Float64Array.from({ length: half }, (_, j) => x[2 * j]!),
    im: Float64Array.from({ length: half }, (_, j) => x[2 * j + 1]!),
  });
  const out = complexArray(bins);
  for (let k = 0; k < bins; k++) {
    const [a, b] = [k % half, (half - k) % half];
    const [er, ei] = [(z.re[a]! + z.re[b]!) / 2, (z.im[a]! - z.im[b]!) / 2];
    const [or, oi] = [(z.im[a]! + z.im[b]!) / 2, (z.re[b]! - z.re[a]!) / 2];
    const [c, s] = [Math.cos((2 * Math.PI * k) / n), -Math.sin((2 * Math.PI * k) / n)];
    out.re[k] = er + c * or - s * oi;
    out.im[k] = ei + c * oi + s * or;
  }
  return out;
}

/** The real signal of n samples with these bins, the inverse of `rfft`. Imaginary parts of the real bins are ignored, as in NumPy. */
export function irfft(y: ComplexArray, n: number): Float64Array {
  if (!Number.isInteger(n) || n < 1)
    throw new SsmError("invalid-argument", `irfft: length ${n} is not a positive integer`);
  const bins = Math.floor(n / 2) + 1;
  if (y.re.length !== bins || y.im.length !== bins)
    throw new SsmError("shape", `irfft: ${y.re.length} bins given, ${n} samples have ${bins}`);
  if (n % 2 === 1) {
    const full = complexArray(n);
    for (let k = 0; k < n; k++) {
      const mirrored = k >= bins;
      full.re[k] = y.re[mirrored ? n - k : k]!;
      full.im[k] = k === 0 ? 0 : mirrored ? -y.im[n - k]! : y.im[k]!;
    }
    return ifft(full).re;
  }
  const half = n / 2;
  const z = complexArray(half);
  for (let k = 0; k < half; k++) {
    const m = half - k;
    const [ai, bi] = [k === 0 ? 0 : y.im[k]!, m === half ? 0 : y.im[m]!];
    const [er, ei] = [(y.re[k]! + y.re[m]!) / 2, (ai - bi) / 2];
    const [dr, di] = [(y.re[k]! - y.re[m]!) / 2, (ai + bi) / 2];
    const [c, s] = [Math.cos((2 * Math.PI * k) / n), Math.sin((2 * Math.PI * k) / n)];
    const [or, oi] = [c * dr - s * di, c * di + s * dr];
    z.re[k] = er - oi;
    z.im[k] = ei + or;
  }
  const { re, im } = ifft(z);
  return Float64Array.from({ length: n }, (_, i) => (i % 2 === 0 ? re : im)[i >> 1]!);
}

function transform(x: ComplexArray): void {
  const n = x.re.length;
  if (n <= 1) return;
  if ((n & (n - 1)) === 0) radix2(x);
  else bluestein(x);
}

/** In place, for n = 2^k: bit reversal, then butterflies (Cooley and Tukey). */
function radix2({ re, im }: ComplexArray): void {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; (j & bit) !== 0; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i >= j) continue;
    [re[i], re[j]] = [re[j]!, re[i]!];
    [im[i], im[j]] = [im[j]!, im[i]!];
  }
  const cosines = Float64Array.from({ length: n / 2 }, (_, k) => Math.cos((2 * Math.PI * k) / n));
  const sines = Float64Array.from({ length: n / 2 }, (_, k) => -Math.sin((2 * Math.PI * k) / n));
  for (let size = 2; size <= n; size *= 2) {
    const [half, stride] = [size / 2, n / size];
    for (let start = 0; start < n; start += size)
      for (let k = 0; k < half; k++) {
        const [p, q] = [start + k, start + k + half];
        const [c, s] = [cosines[k * stride]!, sines[k * stride]!];
        const [br, bi] = [c * re[q]! - s * im[q]!, c * im[q]! + s * re[q]!];
        re[q] = re[p]! - br;
        im[q] = im[p]! - bi;
        re[p]! += br;
        im[p]! += bi;
      }
  }
}

/** jk = (j^2 + k^2 - (k - j)^2) / 2 makes any length a convolution, done at a power of two (Bluestein, 1970). */
function bluestein(x: ComplexArray): void {
  const n = x.re.length;
  const m = 2 ** Math.ceil(Math.log2(2 * n - 1));
  const [chirp, a, b] = [complexArray(n), complexArray(m), complexArray(m)];
  for (let k = 0; k < n; k++) {
    const angle = (Math.PI * ((k * k) % (2 * n))) / n; // k^2 is exact below 2^53
    chirp.re[k] = Math.cos(angle);
    chirp.im[k] = -Math.sin(angle);
    a.re[k] = x.re[k]! * chirp.re[k]! - x.im[k]! * chirp.im[k]!;
    a.im[k] = x.re[k]! * chirp.im[k]! + x.im[k]! * chirp.re[k]!;
    b.re[k] = b.re[(m - k) % m] = chirp.re[k]!;
    b.im[k] = b.im[(m - k) % m] = -chirp.im[k]!;
  }
  radix2(a);
  radix2(b);
  // The product with its parts exchanged: the forward transform of that is the inverse one, exchanged.
  const product = complexArray(m);
  for (let k = 0; k < m; k++) {
    product.im[k] = a.re[k]! * b.re[k]! - a.im[k]! * b.im[k]!;
    product.re[k] = a.re[k]! * b.im[k]! + a.im[k]! * b.re[k]!;
  }
  radix2(product);
  for (let k = 0; k < n; k++) {
    const [re, im] = [product.im[k]! / m, product.re[k]! / m];
    x.re[k] = re * chirp.re[k]! - im * chirp.im[k]!;
    x.im[k] = re * chirp.im[k]! + im * chirp.re[k]!;
  }
}
