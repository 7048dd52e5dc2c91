/** Square real matrices, row-major, as small as the state of a system. */
import { SsmError } from "./errors.js";

export function identity(n: number): Float64Array {
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i++) out[i * n + i] = 1;
  return out;
}

/** a b, both [n, n]. */
export function matMul(a: Float64Array, b: Float64Array, n: number): Float64Array {
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let k = 0; k < n; k++) {
      const x = a[i * n + k]!;
      if (x === 0) continue;
      for (let j = 0; j < n; j++) out[i * n + j]! += x * b[k * n + j]!;
    }
  return out;
}

/** a x for a matrix [n, n] and a vector [n]. */
export function matVec(a: Float64Array, x: Float64Array): Float64Array {
  const n = x.length;
  const out = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    let sum = 0;
    for (let j = 0; j < n; j++) sum += a[i * n + j]! * x[j]!;
    out[i] = sum;
  }
  return out;
}

/** x a for a row [n] and a matrix [n, n]. */
export function vecMat(x: Float64Array, a: Float64Array): Float64Array {
  const n = x.length;
  const out = new Float64Array(n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) out[j]! += x[i]! * a[i * n + j]!;
  return out;
}

/** sum_i x[i] y[i] */
export function dotProduct(x: Float64Array, y: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! * y[i]!;
  return sum;
}

/** scale a + shift I */
export function scaledPlusIdentity(a: Float64Array, n: number, scale: number, shift: number): Float64Array {
  return a.map((v, i) => scale * v + (i % (n + 1) === 0 ? shift : 0));
}

export function transpose(a: Float64Array, n: number): Float64Array {
  return a.map((_, i) => a[(i % n) * n + Math.floor(i / n)]!);
}

/** a^exponent for an integer exponent of at least 0, by squaring. */
export function matrixPower(a: Float64Array, n: number, exponent: number): Float64Array {
  if (!Number.isSafeInteger(exponent) || exponent < 0)
    throw new SsmError("invalid-argument", `matrixPower: exponent ${exponent} is not an integer of at least 0`);
  let out = identity(n);
  let square = a;
  for (let e = exponent; e > 0; e = Math.floor(e / 2)) {
    if (e % 2 === 1) out = matMul(out, square, n);
    if (e > 1) square = matMul(square, square, n);
  }
  return out;
}

/**
 * The X with a X = b, by elimination with partial pivoting.
 * @param a - [n, n]  @param b - [n, columns]  @returns [n, columns]
 * Throws SsmError if a is singular to working precision.
 */
export function solve(a: Float64Array, b: Float64Array, n: number): Float64Array {
  const [lu, x] = [a.slice(), b.slice()];
  const columns = n === 0 ? 0 : b.length / n;
  for (let k = 0; k < n; k++) {
    let pivot = k;
    for (let i = k + 1; i < n; i++) if (Math.abs(lu[i * n + k]!) > Math.abs(lu[pivot * n + k]!)) pivot = i;
    const head = lu[pivot * n + k]!;
    if (!(Math.abs(head) > 0 && Number.isFinite(head)))
      throw new SsmError("invalid-argument", `solve: the matrix [${n}, ${n}] is singular`);
    swapRows(lu, n, k, pivot);
    swapRows(x, columns, k, pivot);
    for (let i = k + 1; i < n; i++) {
      const f = lu[i * n + k]! / head;
      if (f === 0) continue;
      for (let j = k + 1; j < n; j++) lu[i * n + j]! -= f * lu[k * n + j]!;
      for (let j = 0; j < columns; j++) x[i * columns + j]! -= f * x[k * columns + j]!;
    }
  }
  for (let k = n - 1; k >= 0; k--)
    for (let j = 0; j < columns; j++) {
      let sum = x[k * columns + j]!;
      for (let i = k + 1; i < n; i++) sum -= lu[k * n + i]! * x[i * columns + j]!;
      x[k * columns + j] = sum / lu[k * n + k]!;
    }
  return x;
}

function swapRows(a: Float64Array, width: number, i: number, k: number): void {
  if (i === k) return;
  for (let j = 0; j < width; j++) {
    const value = a[i * width + j]!;
    a[i * width + j] = a[k * width + j]!;
    a[k * width + j] = value;
  }
}
