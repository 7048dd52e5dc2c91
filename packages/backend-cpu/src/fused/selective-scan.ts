import type { Buf, FusedOps, SelectiveScanDescriptor } from "@mamba-ts/backend";
import { sigmoid } from "../functions.js";
import type { CpuMemory } from "../storage.js";
import { output } from "../values.js";
import { scanBackward } from "./selective-scan-backward.js";
import { advance, CHECKPOINT, type ScanInputs, scanInputs, startState, stepSizes } from "./selective-scan-shared.js";

type Op = NonNullable<FusedOps["selectiveScan"]>;
type Args = Parameters<Op["forward"]>[0];
type Numbers = Float32Array | Float64Array;

/** y = (C . h + D x) silu(z) for one token. */
function readOut(
  h: Float64Array,
  inputs: ScanInputs,
  row: number,
  d: SelectiveScanDescriptor,
  y: Numbers,
  at: number,
): void {
  const { x, C, D, z } = inputs;
  const { dInner, dState, groups } = d;
  const cAt = C.offset + row * C.stride;
  const perGroup = dInner / groups;
  for (let c = 0, i = 0; c < dInner; c++) {
    const from = cAt + Math.floor(c / perGroup) * dState;
    let sum = 0;
    for (let n = 0; n < dState; n++, i++) sum += C.data[from + n]! * h[i]!;
    if (D !== undefined) sum += D[c]! * x.data[x.offset + row * x.stride + c]!;
    if (z !== undefined) {
      const gate = z.data[z.offset + row * z.stride + c]!;
      sum *= gate * sigmoid(gate);
    }
    y[at + c] = sum;
  }
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
  const y = output(memory, batch * length * dInner, d.dtype);
  const final = output(memory, batch * states, kept);
  const checkpoints = Math.ceil(length / CHECKPOINT);
  const saved = save ? output(memory, batch * checkpoints * states, kept) : undefined;
  const h = new Float64Array(states);
  const steps = new Float64Array(dInner);
  for (let b = 0; b < batch; b++) {
    startState(h, inputs.initialState, b);
    for (let t = 0; t < length; t++) {
      if (saved !== undefined && t % CHECKPOINT === 0) saved.values.set(h, (b * checkpoints + t / CHECKPOINT) * states);
      const row = b * length + t;
      const mark = inputs.marks === undefined ? 0 : inputs.marks[row]!;
      if (mark < 0) {
        y.values.fill(0, row * dInner, (row + 1) * dInner);
        continue;
      }
      if (mark > 0) h.fill(0);
      stepSizes(inputs, row, d, steps);
      advance(h, inputs, row, steps, d);
      readOut(h, inputs, row, d, y.values as Numbers, row * dInner);
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
