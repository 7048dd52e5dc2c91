/**
 * The selective scan of Mamba (arXiv:2312.00752, Alg. 2), in float64. One definition, three orders of evaluation:
 *
 *   d = softplus?(delta + deltaBias);   a = exp(d A);   b = d B x
 *   h[t] = a[t] h[t-1] + b[t];          y[t] = (C[t] . h[t] + D x[t]) silu(z[t])
 *
 * Arrays are row-major: x, delta, z, y [batch, length, dInner]; A [dInner, dState]; B, C [batch, length, groups, dState];
 * D, deltaBias [dInner]; states [batch, dInner, dState]; marks [batch, length].
 */
import { associativeScan } from "./associative-scan.js";
import { expectLength, SsmError } from "./errors.js";
import { silu, softplus } from "./functions.js";

export interface ScanShape {
  readonly batch: number;
  readonly length: number;
  readonly dInner: number;
  readonly dState: number;
  /** Channels c of one group share B and C: group floor(c groups / dInner). 1 by default. */
  readonly groups?: number;
}

export interface ScanArguments extends ScanShape {
  readonly x: Float64Array;
  readonly delta: Float64Array;
  readonly A: Float64Array;
  readonly B: Float64Array;
  readonly C: Float64Array;
  readonly D?: Float64Array;
  readonly z?: Float64Array;
  readonly deltaBias?: Float64Array;
  readonly softplus?: boolean;
  readonly initialState?: Float64Array;
  /** 1: forget the state before this token. -1: padding, the state is held, y is 0, nothing of the token is read. */
  readonly marks?: Int32Array;
}

export interface ScanResult {
  readonly y: Float64Array;
  readonly finalState: Float64Array;
}

/** The two numbers of a step of one state, h = a h' + b. */
interface Steps {
  readonly a: Float64Array;
  readonly b: Float64Array;
}

export function checkScan(args: ScanArguments): Required<ScanShape> {
  const { batch, length, dInner, dState, groups = 1 } = args;
  const op = "selectiveScan";
  for (const [name, n] of Object.entries({ batch, length, dInner, dState, groups }))
    if (!Number.isInteger(n) || n < 0) throw new SsmError("shape", `${op}: ${name} is ${n}`);
  if (groups < 1 || dInner % groups !== 0)
    throw new SsmError("shape", `${op}: ${groups} groups do not divide dInner ${dInner}`);
  const tokens = [batch, length, dInner];
  const shapes = {
    x: tokens,
    delta: tokens,
    A: [dInner, dState],
    B: [batch, length, groups, dState],
    C: [batch, length, groups, dState],
    D: [dInner],
    z: tokens,
    deltaBias: [dInner],
    initialState: [batch, dInner, dState],
  };
  for (const [name, shape] of Object.entries(shapes)) expectLength(op, name, args[name as keyof typeof shapes], shape);
  expectLength(op, "marks", args.marks, [batch, length]);
  return { batch, length, dInner, dState, groups };
}

/** Step size of channel c at token `row` = batch * length + t. */
export function stepSize({ delta, deltaBias, softplus: soft, dInner }: ScanArguments, row: number, c: number): number {
  const raw = delta[row * dInner + c]! + (deltaBias?.[c] ?? 0);
  return soft === true ? softplus(raw) : raw;
}

/** Index of (row, channel c's group, state 0) in B and C. */
export function groupOffset({ groups = 1, dInner, dState }: ScanShape, row: number, c: number): number {
  return (row * groups + Math.floor((c * groups) / dInner)) * dState;
}

/** a and b of state (c, n) for tokens start … end - 1 of one row of the batch. */
function steps(args: ScanArguments, batch: number, c: number, n: number, start: number, end: number): Steps {
  const { length, dInner, dState, A, B, x, marks } = args;
  const a = new Float64Array(end - start);
  const b = new Float64Array(end - start);
  for (let t = start; t < end; t++) {
    const row = batch * length + t;
    const mark = marks?.[row] ?? 0;
    if (mark < 0) {
      a[t - start] = 1;
      continue;
    }
    const d = stepSize(args, row, c);
    a[t - start] = mark > 0 ? 0 : Math.exp(d * A[c * dState + n]!);
    b[t - start] = d * B[groupOffset(args, row, c) + n]! * x[row * dInner + c]!;
  }
  return { a, b };
}

type Recurrence = (steps: (start: number, end: number) => Steps, length: number, h0: number) => Float64Array;

/** h[t] one after another. */
const inOrder: Recurrence = (of, length, h0) => {
  const { a, b } = of(0, length);
  const h = new Float64Array(length);
  let state = h0;
  for (let t = 0; t < length; t++) h[t] = state = a[t]! * state + b[t]!;
  return h;
};

/** Chunks that hand their last state on. */
const inChunks =
  (chunk: number): Recurrence =>
  (of, length, h0) => {
    const h = new Float64Array(length);
    let state = h0;
    for (let start = 0; start < length; start += chunk) {
      const end = Math.min(length, start + chunk);
      h.set(
        inOrder((from, to) => of(start + from, start + to), end - start, state),
        start,
      );
      state = h[end - 1]!;
    }
    return h;
  };

/** All prefixes at once: (a1, b1) then (a2, b2) is (a1 a2, a2 b1 + b2), which is associative (Blelloch 1990). */
const inParallel: Recurrence = (of, length, h0) => {
  const prefix = associativeScan(of(0, length));
  return Float64Array.from({ length }, (_, t) => prefix.a[t]! * h0 + prefix.b[t]!);
};

function scanBy(args: ScanArguments, recurrence: Recurrence): ScanResult {
  const { batch, length, dInner, dState } = checkScan(args);
  const { C, D, x, z, initialState, marks } = args;
  const y = new Float64Array(batch * length * dInner);
  const finalState = new Float64Array(batch * dInner * dState);
  for (let i = 0; i < batch; i++)
    for (let c = 0; c < dInner; c++) {
      for (let n = 0; n < dState; n++) {
        const at = (i * dInner + c) * dState + n;
        const h0 = initialState?.[at] ?? 0;
        const h = recurrence((start, end) => steps(args, i, c, n, start, end), length, h0);
        finalState[at] = length === 0 ? h0 : h[length - 1]!;
        for (let t = 0; t < length; t++) {
          const row = i * length + t;
          if ((marks?.[row] ?? 0) >= 0) y[row * dInner + c]! += C[groupOffset(args, row, c) + n]! * h[t]!;
        }
      }
      for (let t = 0; t < length; t++) {
        const row = i * length + t;
        if ((marks?.[row] ?? 0) < 0) continue;
        const at = row * dInner + c;
        y[at]! += (D?.[c] ?? 0) * x[at]!;
        if (z !== undefined) y[at]! *= silu(z[at]!);
      }
    }
  return { y, finalState };
}

/** The selective scan as a loop over time. Throws SsmError naming an argument of the wrong size. */
export function selectiveScan(args: ScanArguments): ScanResult {
  return scanBy(args, inOrder);
}

/** The same in chunks of `chunk` tokens, the state carried between them. */
export function selectiveScanChunked(args: ScanArguments, chunk: number): ScanResult {
  if (!Number.isInteger(chunk) || chunk < 1)
    throw new SsmError("invalid-argument", `selectiveScanChunked: chunk ${chunk} is not a positive integer`);
  return scanBy(args, inChunks(chunk));
}

/** The same as a parallel prefix scan over time. */
export function selectiveScanParallel(args: ScanArguments): ScanResult {
  return scanBy(args, inParallel);
}
