/** The scalar functions behind the elementwise primitives. */

/** log(1 + exp(x)); the identity above 20 (as the reference implementation has it), accurate where exp(x) is tiny. */
export function softplus(x: number): number {
  return x > 20 ? x : Math.log1p(Math.exp(x));
}

/** 1 / (1 + exp(-x)), without overflow. */
export function sigmoid(x: number): number {
  if (x >= 0) return 1 / (1 + Math.exp(-x));
  const e = Math.exp(x);
  return e / (1 + e);
}

/** Derivative of softplus: 1 above its threshold. */
export function softplusGradient(x: number): number {
  return x > 20 ? 1 : sigmoid(x);
}

/** Derivative of x sigmoid(x), given both. */
export function siluGradient(x: number, s: number): number {
  return s * (1 + x * (1 - s));
}

/**
 * Gauss error function to double precision: the Taylor series near 0, the continued fraction of erfc (Lentz) farther out
 * (Abramowitz and Stegun 7.1.5 and 7.1.14).
 */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (Number.isNaN(x)) return x;
  if (a > 6) return Math.sign(x);
  if (a < 2.5) {
    let term = a;
    let sum = a;
    for (let n = 1; Math.abs(term) > 1e-17 * sum; n++) {
      term *= (-a * a) / n;
      sum += term / (2 * n + 1);
    }
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let fraction = 0;
  for (let k = 60; k >= 1; k--) fraction = k / 2 / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + fraction));
}

/** log(sum(exp(x[i]))) over `n` elements from `at` on, without overflow; -Infinity of none. */
export function logSumExp(x: Float64Array, at: number, n: number): number {
  let top = Number.NEGATIVE_INFINITY;
  for (let i = at; i < at + n; i++) top = Math.max(top, x[i]!);
  if (!Number.isFinite(top)) return top;
  let sum = 0;
  for (let i = at; i < at + n; i++) sum += Math.exp(x[i]! - top);
  return top + Math.log(sum);
}
