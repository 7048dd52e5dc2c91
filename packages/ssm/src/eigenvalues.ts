import { type Complex, type ComplexArray, complexArray, multiply } from "./complex.js";
import { SsmError } from "./errors.js";
import { transpose } from "./matrix.js";

/**
 * Eigenvalues of a real matrix [n, n], unordered: Householder's reduction to Hessenberg form, then QR steps with Wilkinson's shift in
 * complex arithmetic (Golub and Van Loan, Matrix Computations, chapter 7). Triangular matrices give their diagonal exactly.
 * Throws SsmError if a value is not finite.
 */
export function eigenvalues(a: Float64Array, n: number): ComplexArray {
  if (!a.every(Number.isFinite)) throw new SsmError("invalid-argument", "eigenvalues: a value is not finite");
  // The transposed matrix has the same ones; the lighter its lower triangle, the less there is to do (HiPPO-LegS: nothing).
  const weight = (m: Float64Array): number =>
    m.reduce((s, v, i) => s + (i % n < Math.floor(i / n) ? Math.abs(v) : 0), 0);
  const turned = transpose(a, n);
  const h = { re: hessenberg(weight(turned) < weight(a) ? turned : a.slice(), n), im: new Float64Array(n * n) };
  const out = complexArray(n);
  let high = n - 1;
  for (let round = 0; high >= 0; round++) {
    let low = high;
    while (low > 0 && !isNegligible(h, n, low)) low--;
    if (low === high) {
      out.re[high] = h.re[high * (n + 1)]!;
      out.im[high] = h.im[high * (n + 1)]!;
      high--;
      round = 0;
    } else {
      if (round > 300) throw new SsmError("invalid-argument", "eigenvalues: the QR iteration does not converge");
      qrStep(h, n, low, high, round % 10 === 9);
    }
  }
  return out;
}

function isNegligible({ re, im }: ComplexArray, n: number, k: number): boolean {
  const size = (i: number): number => Math.abs(re[i]!) + Math.abs(im[i]!);
  const near = size((k - 1) * (n + 1)) + size(k * (n + 1));
  return size(k * n + k - 1) <= 2.3e-16 * (near === 0 ? 1 : near);
}

/** Orthogonal reduction to zeros below the first subdiagonal; works in its argument. */
function hessenberg(a: Float64Array, n: number): Float64Array {
  for (let k = 0; k < n - 2; k++) {
    const v = Float64Array.from({ length: n }, (_, i) => (i > k ? a[i * n + k]! : 0));
    const norm = Math.hypot(...v);
    if (norm === Math.abs(v[k + 1]!)) continue; // nothing to remove
    v[k + 1]! += v[k + 1]! > 0 ? norm : -norm;
    const scale = 2 / v.reduce((s, x) => s + x * x, 0);
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let i = k + 1; i < n; i++) sum += v[i]! * a[i * n + j]!;
      for (let i = k + 1; i < n; i++) a[i * n + j]! -= scale * sum * v[i]!;
    }
    for (let i = 0; i < n; i++) {
      let sum = 0;
      for (let j = k + 1; j < n; j++) sum += a[i * n + j]! * v[j]!;
      for (let j = k + 1; j < n; j++) a[i * n + j]! -= scale * sum * v[j]!;
    }
    for (let i = k + 2; i < n; i++) a[i * n + k] = 0;
  }
  return a;
}

/** H - mu I = Q R, H := R Q + mu I on rows and columns low … high. */
function qrStep(h: ComplexArray, n: number, low: number, high: number, exceptional: boolean): void {
  const { re, im } = h;
  const mu = exceptional
    ? { re: re[high * (n + 1)]! + Math.abs(re[high * n + high - 1]!), im: im[high * (n + 1)]! }
    : wilkinsonShift(h, n, high);
  for (let i = low; i <= high; i++) {
    re[i * (n + 1)]! -= mu.re;
    im[i * (n + 1)]! -= mu.im;
  }
  const rotations: { c: number; s: Complex }[] = [];
  for (let k = low; k < high; k++) {
    const [p, q] = [k * (n + 1), (k + 1) * n + k];
    const [sizeP, sizeQ] = [Math.hypot(re[p]!, im[p]!), Math.hypot(re[q]!, im[q]!)];
    const r = Math.hypot(sizeP, sizeQ);
    // c real, s complex: [c, s; -conj(s), c] (p, q) = (r p/|p|, 0)
    const phase = sizeP === 0 ? { re: 1, im: 0 } : { re: re[p]! / sizeP, im: im[p]! / sizeP };
    const s = r === 0 ? { re: 0, im: 0 } : multiply(phase, { re: re[q]! / r, im: -im[q]! / r });
    const c = r === 0 ? 1 : sizeP / r;
    rotations.push({ c, s });
    for (let j = k; j <= high; j++) rotate(h, k * n + j, (k + 1) * n + j, c, s);
  }
  for (const [i, { c, s }] of rotations.entries()) {
    const k = low + i;
    for (let row = low; row <= Math.min(k + 1, high); row++)
      rotate(h, row * n + k, row * n + k + 1, c, { re: s.re, im: -s.im });
  }
  for (let i = low; i <= high; i++) {
    re[i * (n + 1)]! += mu.re;
    im[i * (n + 1)]! += mu.im;
  }
}

/** (x, y) := (c x + s y, c y - conj(s) x) */
function rotate({ re, im }: ComplexArray, x: number, y: number, c: number, s: Complex): void {
  const [xr, xi, yr, yi] = [re[x]!, im[x]!, re[y]!, im[y]!];
  re[x] = c * xr + s.re * yr - s.im * yi;
  im[x] = c * xi + s.re * yi + s.im * yr;
  re[y] = c * yr - (s.re * xr + s.im * xi);
  im[y] = c * yi - (s.re * xi - s.im * xr);
}

/** The eigenvalue of the trailing 2 x 2 block that lies nearer to its last element. */
function wilkinsonShift({ re, im }: ComplexArray, n: number, high: number): Complex {
  const get = (i: number, j: number): Complex => ({ re: re[i * n + j]!, im: im[i * n + j]! });
  const [a, b, c, d] = [get(high - 1, high - 1), get(high - 1, high), get(high, high - 1), get(high, high)];
  const half = { re: (a.re - d.re) / 2, im: (a.im - d.im) / 2 };
  const [square, bc] = [multiply(half, half), multiply(b, c)];
  const root = squareRoot({ re: square.re + bc.re, im: square.im + bc.im });
  const sign = half.re * root.re + half.im * root.im > 0 ? -1 : 1;
  return { re: d.re + half.re + sign * root.re, im: d.im + half.im + sign * root.im };
}

function squareRoot({ re, im }: Complex): Complex {
  const r = Math.hypot(re, im);
  const x = Math.sqrt((r + Math.abs(re)) / 2);
  if (x === 0) return { re: 0, im: 0 };
  return re >= 0 ? { re: x, im: im / (2 * x) } : { re: Math.abs(im) / (2 * x), im: im < 0 ? -x : x };
}
