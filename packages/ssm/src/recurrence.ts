import { at, multiply } from "./complex.js";
import type { DiscretizationRule } from "./discretization.js";
import { type DiscreteSystem, discretizeSystem } from "./discretize-system.js";
import { expectLength, SsmError } from "./errors.js";
import { dotProduct, matVec } from "./matrix.js";
import { checkTimes } from "./simulate.js";
import { checkSystem, expectFinite, missingSamples, rowOf, type StateSpace, stateSize } from "./system.js";

export interface RecurrenceResult {
  /** [length] */
  readonly y: Float64Array;
  /** [state size] after the last sample: (Re x, Im x) of a diagonal system. */
  readonly finalState: Float64Array;
}

export interface RecurrenceOptions {
  /** [state size]; zeros by default. */
  readonly initialState?: Float64Array | undefined;
}

/** Number of real values in a discrete system's state. */
export function discreteStateSize(system: DiscreteSystem): number {
  return system.form === "discrete-dense" ? system.B.length : 2 * system.A.re.length;
}

/** x := A x + B u */
export function advance(system: DiscreteSystem, x: Float64Array, u: number): Float64Array {
  if (system.form === "discrete-dense") {
    const out = matVec(system.A, x);
    for (let i = 0; i < out.length; i++) out[i]! += system.B[i]! * u;
    return out;
  }
  const n = system.A.re.length;
  const out = new Float64Array(2 * n);
  for (let i = 0; i < n; i++) {
    const { re, im } = multiply(at(system.A, i), { re: x[i]!, im: x[n + i]! });
    out[i] = re + system.B.re[i]! * u;
    out[n + i] = im + system.B.im[i]! * u;
  }
  return out;
}

/** The real row that reads y from the state. */
export function outputRow(system: DiscreteSystem): Float64Array {
  return system.form === "discrete-dense" ? system.C : rowOf(system.C);
}

/**
 * The recurrence, sample by sample: x[t] = A x[t-1] + B u[t], y[t] = C x[t] + D u[t]. An unstable system grows, as it should.
 * @param u - [length], any length, 0 included
 * Throws SsmError if a sample is not finite.
 */
export function recurrence(
  system: DiscreteSystem,
  u: Float64Array,
  { initialState }: RecurrenceOptions = {},
): RecurrenceResult {
  return steps("recurrence", u, discreteStateSize(system), initialState, () => system);
}

/**
 * The recurrence with a step size of its own for every sample: x[t] = A(delta[t]) x[t-1] + B(delta[t]) u[t]. By `zoh` that is exact for an
 * input equal to u[t] over the delta[t] before sample t, so that samples at irregular times need no resampling.
 * @param u, deltas - [length]; steps are at least 0
 */
export function sampledRecurrence(
  system: StateSpace,
  rule: DiscretizationRule,
  u: Float64Array,
  deltas: Float64Array,
  { initialState }: RecurrenceOptions = {},
): RecurrenceResult {
  checkSystem("sampledRecurrence", system);
  if (deltas.length !== u.length)
    throw new SsmError("shape", `sampledRecurrence: ${u.length} samples, ${deltas.length} steps`);
  return steps("sampledRecurrence", u, stateSize(system), initialState, discretizer(system, rule, deltas));
}

/** The system at step t, discretized anew only where the step size is new. */
export function discretizer(
  system: StateSpace,
  rule: DiscretizationRule,
  deltas: Float64Array,
): (t: number) => DiscreteSystem {
  const known = new Map<number, DiscreteSystem>();
  return (t) => {
    const delta = deltas[t]!;
    let found = known.get(delta);
    if (found === undefined) {
      if (known.size > 256) known.clear();
      known.set(delta, (found = discretizeSystem(rule, system, delta)));
    }
    return found;
  };
}

/**
 * Step sizes from time stamps: each sample's distance from the one before.
 * @param times - increasing
 * @param first - the first sample's step; the second's by default, 1 where there is no second
 * Throws SsmError unless times increase and `first` is a finite number of at least 0.
 */
export function stepsFromTimes(times: ArrayLike<number>, first?: number): Float64Array {
  checkTimes("stepsFromTimes", times);
  const before = first ?? (times.length > 1 ? times[1]! - times[0]! : 1);
  if (!(before >= 0 && Number.isFinite(before)))
    throw new SsmError("invalid-argument", `stepsFromTimes: first step ${before} is not a finite number of at least 0`);
  return Float64Array.from(times, (t, k) => (k === 0 ? before : t - times[k - 1]!));
}

function steps(
  op: string,
  u: Float64Array,
  size: number,
  initialState: Float64Array | undefined,
  systemAt: (t: number) => DiscreteSystem,
): RecurrenceResult {
  expectFinite(op, "u", u, missingSamples);
  expectLength(op, "initialState", initialState, [size]);
  let x: Float64Array = initialState?.slice() ?? new Float64Array(size);
  const y = new Float64Array(u.length);
  for (let t = 0; t < u.length; t++) {
    const system = systemAt(t);
    x = advance(system, x, u[t]!);
    y[t] = dotProduct(outputRow(system), x) + system.D * u[t]!;
  }
  return { y, finalState: x };
}
