/**
 * The selective scan of Mamba (arXiv:2312.00752, Alg. 2), in float64. One definition, three orders of evaluation:
 *
 *   d = softplus?(delta + deltaBias);   a = exp(d A);   b = d B x
 *   h[t] = a[t] h[t-1] + b[t];          y[t] = (C[t] . h[t] + D x[t]) silu(z[t])
 */
import { type AffineSteps, associativeScan } from "./associative-scan.js";
import { SsmError } from "./errors.js";
import { silu } from "./functions.js";
import { checkScan, groupOffset, type ScanArguments, stepSize } from "./scan-arguments.js";

export interface ScanResult {
  /** [batch, length, dInner] */
  readonly y: Float64Array;
  /** [batch, dInner, dState]: the state after the last token; the initial state if there is none. */
  readonly finalState: Float64Array;
}

/** a and b of state (c, n) for tokens start … end - 1 of row i of the batch. Padding holds the state: a = 1, b = 0. */
function stepsOf(args: ScanArguments, i: number, c: number, n: number, start: number, end: number): AffineSteps {
  const { length, dInner, dState, A, B, x, marks } = args;
  const a = new Float64Array(end - start).fill(1);
  const b = new Float64Array(end - start);
  for (let t = start; t < end; t++) {
    const row = i * length + t;
    if ((marks?.[row] ?? 0) < 0) continue;
    const d = stepSize(args, row, c);
    a[t - start] = Math.exp(d * A[c * dState + n]!);
    b[t - start] = d * B[groupOffset(args, row, c) + n]! * x[row * dInner + c]!;
  }
  return { a, b };
}

/** The states after each of the tokens start … end - 1, from the state h0 before them. */
type Recurrence = (
  steps: (start: number, end: number) => AffineSteps,
  start: number,
  end: number,
  h0: number,
) => Float64Array;

/** One token after another. */
const inOrder: Recurrence = (steps, start, end, h0) => {
  const { a, b } = steps(start, end);
  let state = h0;
  return a.map((decay, t) => (state = decay * state + b[t]!));
};

/** In chunks that hand their last state on. */
const inChunks =
  (chunk: number): Recurrence =>
  (steps, start, end, h0) => {
    const h = new Float64Array(end - start);
    let state = h0;
    for (let from = start; from < end; from += chunk) {
      const to = Math.min(end, from + chunk);
      h.set(inOrder(steps, from, to, state), from - start);
      state = h[to - 1 - start]!;
    }
    return h;
  };

/** All prefixes of the steps at once, then each applied to h0. */
const inParallel: Recurrence = (steps, start, end, h0) => {
  const { a, b } = associativeScan(steps(start, end));
  return a.map((decay, t) => decay * h0 + b[t]!);
};

/**
 * Where the state is cleared, before tokens of row i: these cut the row into sequences of their own, so that nothing of what
 * comes before, NaN included, can reach what comes after.
 */
function clearings({ length, marks }: ScanArguments, i: number): number[] {
  return Array.from({ length }, (_, t) => t).filter((t) => (marks?.[i * length + t] ?? 0) > 0);
}

function scanBy(op: string, recurrence: Recurrence, args: ScanArguments): ScanResult {
  const { batch, length, dInner, dState } = checkScan(op, args);
  const { C, D, x, z, initialState, marks } = args;
  const y = new Float64Array(batch * length * dInner);
  const finalState = new Float64Array(batch * dInner * dState);
  for (let i = 0; i < batch; i++) {
    const starts = [0, ...clearings(args, i)];
    const isPadding = (t: number): boolean => (marks?.[i * length + t] ?? 0) < 0;
    for (let c = 0; c < dInner; c++) {
      for (let n = 0; n < dState; n++) {
        const steps = (start: number, end: number): AffineSteps => stepsOf(args, i, c, n, start, end);
        let state = initialState?.[(i * dInner + c) * dState + n] ?? 0;
        for (const [s, start] of starts.entries()) {
          if (s > 0) state = 0;
          const h = recurrence(steps, start, starts[s + 1] ?? length, state);
          h.forEach((value, k) => {
            const row = i * length + start + k;
            if (!isPadding(start + k)) y[row * dInner + c]! += C[groupOffset(args, row, c) + n]! * value;
          });
          state = h.at(-1) ?? state;
        }
        finalState[(i * dInner + c) * dState + n] = state;
      }
      for (let t = 0; t < length; t++) {
        if (isPadding(t)) continue;
        const at = (i * length + t) * dInner + c;
        if (D !== undefined) y[at]! += D[c]! * x[at]!;
        if (z !== undefined) y[at]! *= silu(z[at]!);
      }
    }
  }
  return { y, finalState };
}

/** The selective scan as a loop over time, O(length) steps one after another. Throws SsmError naming an argument of the wrong size. */
export function selectiveScan(args: ScanArguments): ScanResult {
  return scanBy("selectiveScan", inOrder, args);
}

/** The same in chunks of at most `chunk` tokens, the state carried between them: the order in which long sequences fit in memory. */
export function selectiveScanChunked(args: ScanArguments, chunk: number): ScanResult {
  if (!Number.isInteger(chunk) || chunk < 1)
    throw new SsmError("invalid-argument", `selectiveScanChunked: chunk ${chunk} is not a positive integer`);
  return scanBy("selectiveScanChunked", inChunks(chunk), args);
}

/** The same as a parallel prefix scan over time, O(log length) dependent steps (section 3.3.2 of the paper). */
export function selectiveScanParallel(args: ScanArguments): ScanResult {
  return scanBy("selectiveScanParallel", inParallel, args);
}
