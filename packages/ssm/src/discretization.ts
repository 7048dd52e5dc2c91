import { SsmError } from "./errors.js";

/** x[t] = a x[t-1] + b u[t]: one step of the scalar system x' = A x + B u. */
export interface DiscreteStep {
  readonly a: number;
  readonly b: number;
}

/** How a continuous system becomes a recurrence. */
export type Discretization = "zoh" | "mamba" | "bilinear" | "euler" | "backward-euler";

/** The generalised bilinear transform, 0 <= alpha <= 1: Euler at 0, bilinear at 1/2, backward Euler at 1 (arXiv:2111.00396, appendix B). */
export interface GeneralisedBilinear {
  readonly alpha: number;
}
export type DiscretizationRule = Discretization | GeneralisedBilinear;

/** The alpha of a rule of the bilinear family; undefined for those with the exact decay. Throws SsmError outside [0, 1]. */
export function alphaOf(op: string, rule: DiscretizationRule): number | undefined {
  if (typeof rule === "object") {
    if (!(rule.alpha >= 0 && rule.alpha <= 1))
      throw new SsmError("invalid-argument", `${op}: alpha ${rule.alpha} is not in [0, 1]`);
    return rule.alpha;
  }
  return { zoh: undefined, mamba: undefined, bilinear: 0.5, euler: 0, "backward-euler": 1 }[rule];
}

/** Throws SsmError unless a step size is a finite number of at least 0. */
export function checkStep(op: string, delta: number): void {
  if (!(delta >= 0 && Number.isFinite(delta)))
    throw new SsmError("invalid-argument", `${op}: step size ${delta} is not a finite number of at least 0`);
}

/**
 * Discretizes x' = A x + B u with step size delta, for a real diagonal entry A.
 * - `zoh`: exact for an input held constant over the step, a = exp(delta A), b = (exp(delta A) - 1) / A * B (arXiv:2312.00752, eq. 4)
 * - `mamba`: exact decay, Euler input, b = delta B: what the released models and selectiveScan compute
 * - `bilinear`: a = (1 + delta A / 2) / (1 - delta A / 2), b = delta B / (1 - delta A / 2) (arXiv:2111.00396, eq. 3)
 * - `euler`, `backward-euler`: first order, explicit and implicit
 * - `{ alpha }`: a = (1 + (1 - alpha) delta A) / (1 - alpha delta A), b = delta B / (1 - alpha delta A)
 * The implicit rules have a pole where delta A = 2 (bilinear) or 1 (backward Euler), which a stable system (A <= 0) never meets.
 * @param delta - step size, finite and not negative
 */
export function discretize(rule: DiscretizationRule, A: number, B: number, delta: number): DiscreteStep {
  checkStep("discretize", delta);
  const z = delta * A;
  const alpha = alphaOf("discretize", rule);
  if (alpha !== undefined) return { a: (1 + (1 - alpha) * z) / (1 - alpha * z), b: (delta * B) / (1 - alpha * z) };
  return { a: Math.exp(z), b: delta * B * (rule === "zoh" ? expm1Over(z) : 1) };
}

/** (exp(z) - 1) / z, and its limit 1 at z = 0; accurate for any z, since expm1 does not cancel. */
export function expm1Over(z: number): number {
  return z === 0 ? 1 : Math.expm1(z) / z;
}
