import type { ScanArguments } from "./scan-arguments.js";

/** Numbers in [0, 1) from a seed (mulberry32). */
export function uniforms(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** `size` numbers in [low, high). */
export function between(random: () => number, size: number, low = -1, high = 1): Float64Array {
  return Float64Array.from({ length: size }, () => low + (high - low) * random());
}

/**
 * ||got - want|| / ||want||, 0 for two zeros; NaN anywhere gives NaN, which no comparison accepts.
 * @param floor - taken for ||want|| where that is smaller: of sums that happen to cancel, the terms' rounding errors are left
 */
export function relativeError(got: Float64Array, want: Float64Array, floor = 0): number {
  if (got.length !== want.length) return Number.POSITIVE_INFINITY;
  const norm = (values: Float64Array): number => Math.hypot(...values);
  const error = norm(got.map((v, i) => v - want[i]!));
  return error === 0 ? 0 : error / Math.max(norm(want), floor);
}

export function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, v, i) => sum + v * b[i]!, 0);
}

/** The gradient of f at `at` by central differences of fourth order. `at` is changed while f runs, and left as it was. */
export function centralDifferences(f: () => number, at: Float64Array, step = 2e-3): Float64Array {
  return at.map((value, i) => {
    const shifted = (by: number): number => {
      at[i] = value + by * step;
      const result = f();
      at[i] = value;
      return result;
    };
    return (8 * (shifted(1) - shifted(-1)) - (shifted(2) - shifted(-2))) / (12 * step);
  });
}

/** The tokens of rows start … end - 1, of an array [batch, length, width]. */
export function tokens<T extends Float64Array | Int32Array>(
  array: T,
  batch: number,
  length: number,
  start: number,
  end: number,
): T {
  const width = length === 0 ? 0 : array.length / (batch * length);
  return array.filter((_, i) => {
    const t = Math.floor(i / width) % length;
    return start <= t && t < end;
  }) as T;
}

/** Sets NaN in the padding of an array [batch, length, width]. */
export function poison(array: Float64Array, marks: Int32Array): Float64Array {
  const width = array.length / marks.length;
  return array.map((v, i) => (marks[Math.floor(i / width)]! < 0 ? Number.NaN : v));
}

export interface ScanOptions {
  readonly seed: number;
  readonly batch?: number;
  readonly length: number;
  readonly dState?: number;
  readonly groups?: number;
  readonly perGroup?: number;
  readonly D?: boolean;
  readonly z?: boolean;
  readonly bias?: boolean;
  readonly softplus?: boolean;
  readonly initial?: boolean;
  readonly marks?: readonly number[] | undefined;
}

/** Arguments of a stable scan: A in [-1.5, -0.1), step sizes about 0.05 to 0.6. */
export function randomScan(o: ScanOptions): ScanArguments {
  const { batch = 2, length, dState = 3, groups = 1, perGroup = 3 } = o;
  const random = uniforms(o.seed);
  const dInner = groups * perGroup;
  const n = batch * length;
  return {
    batch,
    length,
    dInner,
    dState,
    groups,
    x: between(random, n * dInner),
    delta: o.softplus === true ? between(random, n * dInner, -2.5, -0.5) : between(random, n * dInner, 0.15, 0.45),
    A: between(random, dInner * dState, -1.5, -0.1),
    B: between(random, n * groups * dState),
    C: between(random, n * groups * dState),
    softplus: o.softplus === true,
    ...(o.D === true && { D: between(random, dInner) }),
    ...(o.z === true && { z: between(random, n * dInner, -2, 2) }),
    ...(o.bias === true && { deltaBias: between(random, dInner, -0.1, 0.1) }),
    ...(o.initial === true && { initialState: between(random, batch * dInner * dState) }),
    ...(o.marks !== undefined && { marks: Int32Array.from(o.marks) }),
  };
}
