/** log(1 + exp(x)); above 20 the identity, as the reference implementation has it, and accurate where exp(x) is tiny. */
export function softplus(x: number): number {
  return x > 20 ? x : Math.log1p(Math.exp(x));
}

/** d softplus / dx: sigmoid below the threshold, 1 above. */
export function softplusDerivative(x: number): number {
  return x > 20 ? 1 : sigmoid(x);
}

/** The x with softplus(x) = y, for y >= 0 (-Infinity at 0, NaN below): y + log(-expm1(-y)), accurate where y is tiny. */
export function inverseSoftplus(y: number): number {
  return y + Math.log(-Math.expm1(-y));
}

/** 1 / (1 + exp(-x)) */
export function sigmoid(x: number): number {
  if (x >= 0) return 1 / (1 + Math.exp(-x));
  const e = Math.exp(x);
  return e / (1 + e);
}

/** x sigmoid(x) */
export function silu(x: number): number {
  return x * sigmoid(x);
}

/** d silu / dx */
export function siluDerivative(x: number): number {
  const s = sigmoid(x);
  return s * (1 + x * (1 - s));
}
