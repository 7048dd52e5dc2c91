/**
 * The exact gradient of the selective scan. With g = dL/do, gy = g silu(z) and gh the gradient of the state, backwards in time:
 *   gh[t] = C[t] gy[t] + a[t+1] gh[t+1]      (plus the final state's gradient at the end; dL/dh0 = a[0] gh[0])
 *   gC = sum gy h;  gB = sum gh d x;  gD = sum gy x;  gz = g y silu'(z);  gx = D gy + d sum_n gh B
 *   gd = sum_n gh (A a h[t-1] + B x);  gA = sum_t gh d a h[t-1];  gdelta = gd softplus'(delta + bias)
 */
import { silu, siluDerivative, softplusDerivative } from "./functions.js";
import { checkScan, groupOffset, type ScanArguments, stepSize } from "./selective-scan.js";

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
 * @param gradY - dL/dy [batch, length, dInner]
 * @param gradFinalState - dL/d finalState [batch, dInner, dState]; zeros if absent
 */
export function selectiveScanGradient(
  args: ScanArguments,
  gradY: Float64Array,
  gradFinalState?: Float64Array,
): ScanGradients {
  const { batch, length, dInner, dState } = checkScan(args);
  const { x, delta, A, B, C, D, z, deltaBias, initialState, marks } = args;
  const like = (array: Float64Array): Float64Array => new Float64Array(array.length);
  const g = {
    x: like(x),
    delta: like(delta),
    A: like(A),
    B: like(B),
    C: like(C),
    D: new Float64Array(dInner),
    z: like(x),
    deltaBias: new Float64Array(dInner),
    initialState: new Float64Array(batch * dInner * dState),
  };
  for (let i = 0; i < batch; i++)
    for (let c = 0; c < dInner; c++) {
      const rowAt = (t: number): number => i * length + t;
      const markAt = (t: number): number => marks?.[rowAt(t)] ?? 0;
      const ungated = new Float64Array(length); // C . h + D x
      for (let n = 0; n < dState; n++) {
        const at = (i * dInner + c) * dState + n;
        // Forwards: h[t + 1] is the state after token t.
        const h = new Float64Array(length + 1);
        h[0] = initialState?.[at] ?? 0;
        const a = new Float64Array(length).fill(1);
        for (let t = 0; t < length; t++) {
          const row = rowAt(t);
          if (markAt(t) < 0) {
            h[t + 1] = h[t]!;
            continue;
          }
          const d = stepSize(args, row, c);
          const k = groupOffset(args, row, c) + n;
          a[t] = markAt(t) > 0 ? 0 : Math.exp(d * A[c * dState + n]!);
          h[t + 1] = (a[t] === 0 ? 0 : a[t]! * h[t]!) + d * B[k]! * x[row * dInner + c]!;
          ungated[t]! += C[k]! * h[t + 1]!;
        }
        // Backwards.
        let gh = gradFinalState?.[at] ?? 0;
        for (let t = length - 1; t >= 0; t--) {
          if (markAt(t) < 0) continue;
          const row = rowAt(t);
          const e = row * dInner + c;
          const k = groupOffset(args, row, c) + n;
          const d = stepSize(args, row, c);
          const gy = gradY[e]! * (z === undefined ? 1 : silu(z[e]!));
          gh += C[k]! * gy;
          const past = a[t] === 0 ? 0 : a[t]! * h[t]!;
          g.C[k]! += gy * h[t + 1]!;
          g.B[k]! += gh * d * x[e]!;
          g.x[e]! += gh * d * B[k]!;
          g.A[c * dState + n]! += gh * d * past;
          g.delta[e]! += gh * (A[c * dState + n]! * past + B[k]! * x[e]!);
          gh *= a[t]!;
        }
        g.initialState[at] = gh;
      }
      for (let t = 0; t < length; t++) {
        if (markAt(t) < 0) continue;
        const e = rowAt(t) * dInner + c;
        const gate = z === undefined ? 1 : silu(z[e]!);
        const skip = D?.[c] ?? 0;
        g.z[e] = z === undefined ? 0 : gradY[e]! * (ungated[t]! + skip * x[e]!) * siluDerivative(z[e]!);
        g.D[c]! += gradY[e]! * gate * x[e]!;
        g.x[e]! += gradY[e]! * gate * skip;
        if (args.softplus === true) g.delta[e]! *= softplusDerivative(delta[e]! + (deltaBias?.[c] ?? 0));
        g.deltaBias[c]! += g.delta[e]!;
      }
    }
  return g;
}
