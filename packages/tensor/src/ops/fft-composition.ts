import type { Backend } from "@mamba-ts/backend";
import { fromHost } from "../create.js";
import type { Tensor } from "../tensor.js";
import { add, mul, sub } from "./binary.js";
import { pad } from "./join.js";
import { matmul } from "./matmul.js";
import { permute, reshape, slice } from "./view.js";

/** A complex tensor as two real ones, [rows, n]; without `im` it is real. */
export interface Complex {
  readonly re: Tensor;
  readonly im: Tensor | undefined;
}
type Pair = { readonly re: Tensor; readonly im: Tensor };

/** Transforms up to this size are one matrix product. */
const DIRECT = 64;

/**
 * Discrete Fourier transform of the rows, sum_j x[j] exp(sign 2 pi i j k / n), in O(n log n): mixed radix (Cooley and Tukey) for
 * sizes with small factors, Bluestein's convolution for the others.
 */
export function complexDft(x: Complex, n: number, sign: 1 | -1): Pair {
  if (n <= DIRECT) return productWith(x, dftMatrix(x.re, n, sign));
  const radix = largestFactor(n);
  return radix === 1 ? bluestein(x, n, sign) : mixedRadix(x, n, radix, sign);
}

function largestFactor(n: number): number {
  for (let f = DIRECT; f > 1; f--) if (n % f === 0) return f;
  return 1;
}

/** j = (n / r) j1 + j2, k = k1 + r k2: transforms of size r, twiddle factors, transforms of size n / r. */
function mixedRadix(x: Complex, n: number, r: number, sign: 1 | -1): Pair {
  const rows = x.re.shape[0]!;
  const rest = n / r;
  const apart = (t: Tensor | undefined): Tensor | undefined =>
    t === undefined ? undefined : reshape(t, [rows, r, rest]);
  const inner = productFrom(dftMatrix(x.re, r, sign), { re: apart(x.re)!, im: apart(x.im) }); // [rows, k1, j2]
  const turned = times(inner, twiddles(x.re, r, rest, sign));
  const flat = (t: Tensor): Tensor => reshape(t, [rows * r, rest]);
  const outer = complexDft({ re: flat(turned.re), im: flat(turned.im) }, rest, sign); // [rows * k1, k2]
  const order = (t: Tensor): Tensor => reshape(permute(reshape(t, [rows, r, rest]), [0, 2, 1]), [rows, n]);
  return { re: order(outer.re), im: order(outer.im) };
}

/** jk = (j^2 + k^2 - (k - j)^2) / 2 makes any size a convolution, done at a power of two. */
function bluestein(x: Complex, n: number, sign: 1 | -1): Pair {
  const m = 2 ** Math.ceil(Math.log2(2 * n - 1));
  const chirp = complexConstant(x.re, [n], (k) => (sign * Math.PI * ((k * k) % (2 * n))) / n);
  const kernel = complexConstant(x.re, [1, m], (k) => {
    const d = k < n ? k : m - k;
    return d < n ? (-sign * Math.PI * ((d * d) % (2 * n))) / n : Number.NaN;
  });
  const padded = (p: Pair): Pair => ({ re: pad(p.re, 1, 0, m - n), im: pad(p.im, 1, 0, m - n) });
  const a = complexDft(padded(times(x, chirp)), m, -1);
  const b = complexDft(kernel, m, -1);
  const product = complexDft(times(a, b), m, 1);
  const cut = (t: Tensor): Tensor => mul(slice(t, 1, 0, n), 1 / m);
  return times({ re: cut(product.re), im: cut(product.im) }, chirp);
}

/** exp(i angle(k)) for every element k of a shape; 0 where the angle is NaN. Computed in float64 on the host. */
function complexConstant(like: Tensor, shape: readonly number[], angle: (k: number) => number): Pair {
  const size = shape.reduce((a, b) => a * b, 1);
  const angles = Float64Array.from({ length: size }, (_, k) => angle(k));
  const upload = (f: (x: number) => number): Tensor =>
    hostConstant(
      like.backend,
      angles.map((a) => (Number.isNaN(a) ? 0 : f(a))),
      shape,
      like.dtype,
    );
  return { re: upload(Math.cos), im: upload(Math.sin) };
}

function hostConstant(backend: Backend, data: Float64Array, shape: readonly number[], dtype: string): Tensor {
  return fromHost(backend, data, shape, dtype as "float32" | "float64");
}

function dftMatrix(like: Tensor, n: number, sign: 1 | -1): Pair {
  return complexConstant(like, [n, n], (i) => (sign * 2 * Math.PI * ((Math.floor(i / n) * (i % n)) % n)) / n);
}

function twiddles(like: Tensor, r: number, rest: number, sign: 1 | -1): Pair {
  const n = r * rest;
  return complexConstant(like, [r, rest], (i) => (sign * 2 * Math.PI * ((Math.floor(i / rest) * (i % rest)) % n)) / n);
}

function times(a: Complex, b: Pair): Pair {
  if (a.im === undefined) return { re: mul(a.re, b.re), im: mul(a.re, b.im) };
  return { re: sub(mul(a.re, b.re), mul(a.im, b.im)), im: add(mul(a.re, b.im), mul(a.im, b.re)) };
}

/** x F for rows x (F is symmetric). */
function productWith(x: Complex, f: Pair): Pair {
  return combine(
    x,
    (t) => matmul(t, f.re),
    (t) => matmul(t, f.im),
  );
}

/** F x over the middle axis. */
function productFrom(f: Pair, x: Complex): Pair {
  return combine(
    x,
    (t) => matmul(f.re, t),
    (t) => matmul(f.im, t),
  );
}

function combine(x: Complex, byRe: (t: Tensor) => Tensor, byIm: (t: Tensor) => Tensor): Pair {
  if (x.im === undefined) return { re: byRe(x.re), im: byIm(x.re) };
  return { re: sub(byRe(x.re), byIm(x.im)), im: add(byIm(x.re), byRe(x.im)) };
}
