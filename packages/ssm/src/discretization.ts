import { SsmError } from "./errors.js";

/** x[t] = a x[t-1] + b u[t]: one step of the scalar system x' = A x + B u. */
export interface DiscreteStep {
  readonly a: number;
  readonly b: number;
}

/** How a continuous system becomes a recurrence. */
export type Discretization = "zoh" | "mamba" | "bilinear" | "euler" | "backward-euler";

/**
 * Discretizes x' = A x + B u with step size delta, for a real diagonal entry A.
 * - `zoh`: exact for an input held constant over the step, a = exp(delta A), b = (exp(delta A) - 1) / A * B (arXiv:2312.00752, eq. 4)
 * - `mamba`: exact decay, Euler input, b = delta B: what the released models and selectiveScan compute
 * - `bilinear`: a = (1 + delta A / 2) / (1 - delta A / 2), b = delta B / (1 - delta A / 2) (arXiv:2111.00396, eq. 3)
 * - `euler`, `backward-euler`: first order, explicit and implicit
 * The implicit rules have a pole where delta A = 2 (bilinear) or 1 (backward Euler), which a stable system (A <= 0) never meets.
 * @param delta - step size, finite and not negative
 */
export function discretize(rule: Discretization, A: number, B: number, delta: number): DiscreteStep {
  if (!(delta >= 0 && Number.isFinite(delta)))
    throw new SsmError("invalid-argument", `discretize: step size ${delta} is not a finite number of at least 0`);
  const z = delta * A;
  switch (rule) {
    case "zoh":
      return { a: Math.exp(z), b: delta * expm1Over(z) * B };
    case "mamba":
      return { a: Math.exp(z), b: delta * B };
    case "bilinear":
      return { a: (1 + z / 2) / (1 - z / 2), b: (delta * B) / (1 - z / 2) };
    case "euler":
      return { a: 1 + z, b: delta * B };
    case "backward-euler":
      return { a: 1 / (1 - z), b: (delta * B) / (1 - z) };
  }
}

/** (exp(z) - 1) / z, and its limit 1 at z = 0; accurate for any z, since expm1 does not cancel. */
export function expm1Over(z: number): number {
  return z === 0 ? 1 : Math.expm1(z) / z;
}
