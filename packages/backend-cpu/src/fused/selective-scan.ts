import type { Buf, FusedOps, SelectiveScanDescriptor } from "@mamba-ts/backend";
import { sigmoid } from "../functions.js";
import type { CpuMemory } from "../storage.js";
import { floatOutput } from "../values.js";
import { scanBackward } from "./selective-scan-backward.js";
import { CHECKPOINT, markOf, type ScanInputs, scanInputs, startState, stepSizes } from "./selective-scan-shared.js";

type Op = NonNullable<FusedOps["selectiveScan"]>;
type Args = Parameters<Op["forward"]>[0];

/** One token: h = exp(delta A) h + delta B x, in place, and y = C . h. */
function advance(
  h: Float64Array,
  { A, x: { row: x }, B: { row: B }, C: { row: C } }: ScanInputs,
  steps: Float64Array,
  { dInner, dState, groups }: SelectiveScanDescriptor,
  y: Float64Array,
): void {
  const perGroup = dInner / groups;
  for (let c = 0, i = 0; c < dInner; c++) {
    const group = Math.floor(c / perGroup) * dState;
    const step = steps[c]!;
    const dx = step * x[c]!;
    let sum = 0;
    for (let n = group; n < group + dState; n++, i++) {
      const next = Math.exp(step * A[i]!) * h[i]! + dx * B[n]!;
      h[i] = next;
      sum += C[n]! * next;
    }
    y[c] = sum;
  }
}

/** y = (y + D x) silu(z) for one token. */
function gate(y: Float64Array, { x: { row: x }, D, z }: ScanInputs): void {
  if (D !== undefined) for (let c = 0; c < y.length; c++) y[c] = y[c]! + D[c]! * x[c]!;
  if (z !== undefined) for (let c = 0; c < y.length; c++) y[c] = y[c]! * (z.row[c]! * sigmoid(z.row[c]!));
}

function forward(
  memory: CpuMemory,
  args: Args,
  d: SelectiveScanDescriptor,
  save: boolean,
): { outputs: { y: Buf; finalState: Buf }; saved: Buf[] } {
  const inputs = scanInputs(memory, args);
  const { batch, length, dInner, dState } = d;
  const states = dInner * dState;
  const kept = d.dtype === "float64" ? "float64" : "float32";
  const y = floatOutput(memory, batch * length * dInner, d.dtype);
  const final = floatOutput(memory, batch * states, kept);
  const checkpoints = Math.ceil(length / CHECKPOINT);
  const saved = save ? floatOutput(memory, batch * checkpoints * states, kept) : undefined;
  const h = new Float64Array(states);
  const steps = new Float64Array(dInner);
  const out = new Float64Array(dInner);
  for (let b = 0; b < batch; b++) {
    startState(h, inputs.initialState, b);
    for (let t = 0; t < length; t++) {
      if (saved !== undefined && t % CHECKPOINT === 0) saved.values.set(h, (b * checkpoints + t / CHECKPOINT) * states);
      const row = b * length + t;
      const mark = markOf(inputs, row);
      if (mark < 0) {
        y.values.fill(0, row * dInner, (row + 1) * dInner);
        continue;
      }
      if (mark > 0) h.fill(0);
      for (const rows of [inputs.x, inputs.delta, inputs.B, inputs.C, inputs.z]) rows?.load(row);
      stepSizes(inputs, d, steps);
      advance(h, inputs, steps, d, out);
      gate(out, inputs);
      y.values.set(out, row * dInner);
    }
    final.values.set(h, b * states);
  }
  return { outputs: { y: y.finish(), finalState: final.finish() }, saved: saved === undefined ? [] : [saved.finish()] };
}

/** The selective scan, a token at a time: every channel's state stays in cache, and exp is what costs. */
export function selectiveScan(memory: CpuMemory): Op {
  return {
    supports: () => ({ strided: ["x", "delta", "B", "C", "z"] }),
    forward: (args, descriptor, { save }) => forward(memory, args, descriptor, save),
    backward: (args, descriptor, _, saved, gradOutputs, needs) =>
      scanBackward(memory, args, descriptor, saved, gradOutputs, needs),
  };
}
