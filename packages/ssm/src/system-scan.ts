import type { DiscretizationRule } from "./discretization.js";
import type { DiscreteSystem } from "./discretize-system.js";
import { expectLength, SsmError } from "./errors.js";
import { dotProduct, matMul, matVec } from "./matrix.js";
import { discretizer, outputRow, type RecurrenceOptions, type RecurrenceResult } from "./recurrence.js";
import { checkSystem, expectFinite, missingSamples, type StateSpace, stateSize } from "./system.js";

/**
 * All prefixes x1, x1 o x2, x1 o x2 o x3, … of an associative operation, first first, in O(log n) rounds of fewer than 2 n operations
 * (Blelloch, "Prefix sums and their applications", 1990).
 */
export function prefixes<T>(items: readonly T[], combine: (first: T, second: T) => T): T[] {
  if (items.length <= 1) return [...items];
  const pairs: T[] = [];
  for (let i = 0; i + 1 < items.length; i += 2) pairs.push(combine(items[i]!, items[i + 1]!));
  const solved = prefixes(pairs, combine);
  return items.map((item, i) =>
    i === 0 ? item : i % 2 === 1 ? solved[(i - 1) / 2]! : combine(solved[i / 2 - 1]!, item),
  );
}

/** x -> A x + b, with A as [n, n], or as a diagonal of complex modes in (re, im). */
interface Affine {
  readonly dense: boolean;
  readonly A: Float64Array;
  readonly b: Float64Array;
}

function toAffine(system: DiscreteSystem, u: number): Affine {
  if (system.form === "discrete-dense") return { dense: true, A: system.A, b: system.B.map((v) => v * u) };
  const { A, B } = system;
  return {
    dense: false,
    A: Float64Array.of(...A.re, ...A.im),
    b: Float64Array.of(...B.re.map((v) => v * u), ...B.im.map((v) => v * u)),
  };
}

/** Elementwise products of complex modes. */
function timesModes(a: Float64Array, x: Float64Array): Float64Array {
  const n = a.length / 2;
  return x.map((_, i) => (i < n ? a[i]! * x[i]! - a[n + i]! * x[n + i]! : a[i - n]! * x[i]! + a[i]! * x[i - n]!));
}

/** second after first */
function compose(first: Affine, second: Affine): Affine {
  const { dense } = first;
  const apply = dense ? matVec : timesModes;
  return {
    dense,
    A: dense ? matMul(second.A, first.A, first.b.length) : timesModes(second.A, first.A),
    b: apply(second.A, first.b).map((v, i) => v + second.b[i]!),
  };
}

/** `sampledRecurrence` as a parallel associative scan over the affine maps x -> A x + B u[t]: the form selection leaves possible. */
export function sampledScan(
  system: StateSpace,
  rule: DiscretizationRule,
  u: Float64Array,
  deltas: Float64Array,
  { initialState }: RecurrenceOptions = {},
): RecurrenceResult {
  checkSystem("sampledScan", system);
  expectFinite("sampledScan", "u", u, missingSamples);
  if (deltas.length !== u.length)
    throw new SsmError("shape", `sampledScan: ${u.length} samples, ${deltas.length} steps`);
  const size = stateSize(system);
  expectLength("sampledScan", "initialState", initialState, [size]);
  const start: Float64Array = initialState ?? new Float64Array(size);
  const systemAt = discretizer(system, rule, deltas);
  const systems = Array.from(u, (_, t) => systemAt(t));
  const maps = prefixes(
    systems.map((s, t) => toAffine(s, u[t]!)),
    compose,
  );
  const states = maps.map(({ dense, A, b }) => (dense ? matVec : timesModes)(A, start).map((v, i) => v + b[i]!));
  const y = Float64Array.from(u, (v, t) => dotProduct(outputRow(systems[t]!), states[t]!) + systems[t]!.D * v);
  return { y, finalState: states.at(-1) ?? start.slice() };
}
