/**
 * The exact gradient of the selective scan. With g = dL/dy, gy = g silu(z) and gh the gradient of the state, backwards in time:
 *   gh[t] = C[t] gy[t] + a[t+1] gh[t+1]      (plus the final state's gradient at the end; dL/dh0 = a[0] gh[0])
 *   gC = sum gy h;  gB = sum gh d x;  gD = sum gy x;  gz = g (C . h + D x) silu'(z);  gx = D gy + d sum_n gh B
 *   gd = sum_n gh (A a h[t-1] + B x);  gA = sum_t gh d a h[t-1];  gdelta = gd softplus'(delta + bias);  gbias = sum gdelta
 */
import { expectLength } from "./errors.js";
import { silu, siluDerivative, softplusDerivative } from "./functions.js";
import { checkScan, groupOffset, type ScanArguments, stepSize } from "./scan-arguments.js";

/**
 * Gradients in the shapes of the arguments. Those of absent arguments are taken at D = 0, deltaBias = 0 and initialState = 0;
 * without a gate the gradient of z is 0.
 */
export interface ScanGradients {
  readonly x: Float64Array;
  readonly delta: Float64Array;
  readonly A: Float64Array;
  readonly B: Float64Array;
  readonly C: Float64Array;
  readonly D: Float64Array;
  readonly z: Float64Array;
  readonly deltaBias: Float64Array;
  readonly initialState: Float64Array;
}

/**
 * Runs backwards over the states, which it recomputes. At padding all gradients are 0, and neither gradY nor an argument is read.
 * @param gradY - dL/dy [batch, length, dInner]
 * @param gradFinalState - dL/d finalState [batch, dInner, dState]; zeros if absent
 */
export function selectiveScanGradient(
  args: ScanArguments,
  gradY: Float64Array,
  gradFinalState?: Float64Array,
): ScanGradients {
  const op = "selectiveScanGradient";
  const { batch, length, dInner, dState } = checkScan(op, args);
  expectLength(op, "gradY", gradY, [batch, length, dInner]);
  expectLength(op, "gradFinalState", gradFinalState, [batch, dInner, dState]);
  const like = (array: Float64Array): Float64Array => new Float64Array(array.length);
  const g = {
    x: like(args.x),
    delta: like(args.delta),
    A: like(args.A),
    B: like(args.B),
    C: like(args.C),
    D: new Float64Array(dInner),
    z: like(args.x),
    deltaBias: new Float64Array(dInner),
    initialState: new Float64Array(batch * dInner * dState),
  };
  for (let i = 0; i < batch; i++)
    for (let c = 0; c < dInner; c++) {
      const pass: Pass = { args, gradY, gradFinalState, g, ungated: new Float64Array(length) };
      for (let n = 0; n < dState; n++) throughState(pass, i, c, n);
      throughChannel(pass, i, c);
    }
  return g;
}

/** The pass over one channel of one row. */
interface Pass {
  readonly args: ScanArguments;
  readonly gradY: Float64Array;
  readonly gradFinalState: Float64Array | undefined;
  /** Added to. */
  readonly g: ScanGradients;
  /** [length]: C . h, summed up state by state. */
  readonly ungated: Float64Array;
}

/** What flows through state (c, n) of row i: forwards for the states and C . h, then backwards. Leaves the gradient of d in g.delta. */
function throughState({ args, gradY, gradFinalState, g, ungated }: Pass, i: number, c: number, n: number): void {
  const { length, dInner, dState, x, B, C, z, initialState, marks } = args;
  const A = args.A[c * dState + n]!;
  const at = (i * dInner + c) * dState + n;
  const h = new Float64Array(length); // after each token
  const past = new Float64Array(length); // a[t] h[t-1]
  let state = initialState?.[at] ?? 0;
  for (let t = 0; t < length; t++) {
    const row = i * length + t;
    const mark = marks?.[row] ?? 0;
    if (mark < 0) continue;
    const d = stepSize(args, row, c);
    const k = groupOffset(args, row, c) + n;
    past[t] = mark > 0 ? 0 : Math.exp(d * A) * state;
    h[t] = state = past[t]! + d * B[k]! * x[row * dInner + c]!;
    ungated[t]! += C[k]! * state;
  }
  let gh = gradFinalState?.[at] ?? 0;
  for (let t = length - 1; t >= 0; t--) {
    const row = i * length + t;
    const mark = marks?.[row] ?? 0;
    if (mark < 0) continue;
    const e = row * dInner + c;
    const k = groupOffset(args, row, c) + n;
    const d = stepSize(args, row, c);
    const gy = gradY[e]! * (z === undefined ? 1 : silu(z[e]!));
    gh += C[k]! * gy;
    g.C[k]! += gy * h[t]!;
    g.B[k]! += gh * d * x[e]!;
    g.x[e]! += gh * d * B[k]!;
    g.A[c * dState + n]! += gh * d * past[t]!;
    g.delta[e]! += gh * (A * past[t]! + B[k]! * x[e]!);
    gh = mark > 0 ? 0 : Math.exp(d * A) * gh;
  }
  g.initialState[at] = gh;
}

/** What channel c of row i adds around its states: skip, gate, softplus and bias. */
function throughChannel({ args, gradY, g, ungated }: Pass, i: number, c: number): void {
  const { length, dInner, x, delta, D, z, deltaBias, softplus, marks } = args;
  const skip = D?.[c] ?? 0;
  const bias = deltaBias?.[c] ?? 0;
  for (let t = 0; t < length; t++) {
    const row = i * length + t;
    if ((marks?.[row] ?? 0) < 0) continue;
    const e = row * dInner + c;
    const gy = gradY[e]! * (z === undefined ? 1 : silu(z[e]!));
    if (z !== undefined) g.z[e] = gradY[e]! * (ungated[t]! + skip * x[e]!) * siluDerivative(z[e]!);
    g.D[c]! += gy * x[e]!;
    g.x[e]! += gy * skip;
    if (softplus === true) g.delta[e]! *= softplusDerivative(delta[e]! + bias);
    g.deltaBias[c]! += g.delta[e]!;
  }
}
