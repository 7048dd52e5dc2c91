import { expectLength, SsmError } from "./errors.js";
import { dotProduct } from "./matrix.js";
import { matrixExponential } from "./matrix-exponential.js";
import { checkSystem, type DenseSystem, denseForm, expectFinite, type StateSpace, stateSize } from "./system.js";

export interface SimulateOptions {
  /** At the first time, [state size] (parts of the modes as in `denseForm`); zeros by default. */
  readonly initialState?: Float64Array;
  /** Largest change that halving a step may make to the state, relative to 1 + its norm; 1e-10 by default. */
  readonly tolerance?: number;
}

/** Degree of the polynomial that stands for the input over a step. */
const DEGREE = 4;
/** Steps are halved at most this often: at a jump of the input there is nothing to gain below. */
const DEEPEST = 30;

/**
 * Solves x' = A x + B u(t), y = C x + D u(t) for any input. Over a step the input is replaced by its polynomial interpolant, for which
 * the matrix exponential is exact, and steps are halved until it does not matter: stiff systems cost no more than others, inputs that jump
 * cost a few dozen steps per jump. Unstable systems are followed while their state is finite.
 * @param times - increasing; the first is where the state is `initialState`. None gives nothing, one gives C x + D u there.
 * @returns y [times.length], and the states [times.length, state size]
 * Throws SsmError if times do not increase, or if the input or the state is not finite.
 */
export function simulate(
  system: StateSpace,
  input: (time: number) => number,
  times: ArrayLike<number>,
  { initialState, tolerance = 1e-10 }: SimulateOptions = {},
): { readonly y: Float64Array; readonly states: Float64Array } {
  checkSystem("simulate", system);
  checkTimes("simulate", times);
  const size = stateSize(system);
  expectLength("simulate", "initialState", initialState, [size]);
  if (!(tolerance > 0)) throw new SsmError("invalid-argument", `simulate: tolerance ${tolerance} is not positive`);
  const dense = denseForm(system);
  const u = (t: number): number => {
    const value = input(t);
    if (!Number.isFinite(value)) throw new SsmError("invalid-argument", `simulate: the input at time ${t} is ${value}`);
    return value;
  };
  const advance = stepper(dense, u, tolerance);
  const [y, states] = [new Float64Array(times.length), new Float64Array(times.length * size)];
  let x: Float64Array = initialState?.slice() ?? new Float64Array(size);
  for (let k = 0; k < times.length; k++) {
    if (k > 0) x = advance(x, times[k - 1]!, times[k]!);
    expectFinite("simulate", "state", x, "the system is unstable, and has grown beyond all numbers");
    states.set(x, k * size);
    y[k] = dotProduct(dense.C, x) + (dense.D ?? 0) * u(times[k]!);
  }
  return { y, states };
}

/** Throws SsmError unless times are finite and increase. */
export function checkTimes(op: string, times: ArrayLike<number>): void {
  expectFinite(op, "times", times);
  for (let k = 1; k < times.length; k++)
    if (!(times[k]! > times[k - 1]!))
      throw new SsmError("invalid-argument", `${op}: times[${k}] = ${times[k]} does not come after ${times[k - 1]}`);
}

type Advance = (x: Float64Array, from: number, to: number) => Float64Array;

function stepper(system: DenseSystem, u: (t: number) => number, tolerance: number): Advance {
  const propagators = new Map<number, Float64Array>();
  const single: Advance = (x, from, to) => {
    const h = to - from;
    let p = propagators.get(h);
    if (p === undefined) {
      if (propagators.size > 64) propagators.clear();
      propagators.set(h, (p = propagator(system, h)));
    }
    const derivatives = interpolantDerivatives((s) => u(from + s * h));
    const n = x.length;
    return x.map((_, i) => {
      let sum = 0;
      const row = i * (n + DEGREE + 1);
      for (let j = 0; j < n; j++) sum += p[row + j]! * x[j]!;
      for (let k = 0; k <= DEGREE; k++) sum += p[row + n + k]! * derivatives[k]!;
      return sum;
    });
  };
  const refined = (x: Float64Array, from: number, to: number, whole: Float64Array, depth: number): Float64Array => {
    const middle = (from + to) / 2;
    const first = single(x, from, middle);
    const halves = single(first, middle, to);
    const change = Math.hypot(...halves.map((v, i) => v - whole[i]!));
    if (!(change > tolerance * (1 + Math.hypot(...halves))) || depth >= DEEPEST) return halves;
    const half = refined(x, from, middle, first, depth + 1);
    return refined(half, middle, to, single(half, middle, to), depth + 1);
  };
  return (x, from, to) => refined(x, from, to, single(x, from, to), 0);
}

/** The rows of exp(M) that give x(h) from (x(0), w(0)), where w are the derivatives of the input with respect to s = t / h. */
function propagator({ A, B }: DenseSystem, h: number): Float64Array {
  const n = B.length;
  const width = n + DEGREE + 1;
  const m = new Float64Array(width * width);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) m[i * width + j] = h * A[i * n + j]!;
    m[i * width + n] = h * B[i]!;
  }
  for (let k = 0; k < DEGREE; k++) m[(n + k) * width + n + k + 1] = 1; // w_k' = w_(k+1)
  return matrixExponential(m, width).subarray(0, n * width);
}

/** Derivatives at s = 0 of the polynomial through f at 0, 1/4, 1/2, 3/4 and 1. */
function interpolantDerivatives(f: (s: number) => number): number[] {
  const f0 = f(0);
  const [f1, f2, f3, f4] = [f(0.25), f(0.5), f(0.75), f(1)];
  // Newton's forward differences of spacing 1/4, turned into derivatives.
  const d1 = f1 - f0;
  const d2 = f2 - 2 * f1 + f0;
  const d3 = f3 - 3 * f2 + 3 * f1 - f0;
  const d4 = f4 - 4 * f3 + 6 * f2 - 4 * f1 + f0;
  return [f0, 4 * (d1 - d2 / 2 + d3 / 3 - d4 / 4), 16 * (d2 - d3 + (11 / 12) * d4), 64 * (d3 - 1.5 * d4), 256 * d4];
}
