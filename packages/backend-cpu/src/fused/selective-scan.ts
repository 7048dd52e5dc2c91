import type { Buf, FusedOps, Operand, SelectiveScanDescriptor } from "@mamba-ts/backend";
import { sigmoid, softplus, softplusGradient } from "../functions.js";
import type { CpuMemory } from "../storage.js";
import { floats, output, read } from "../values.js";
import { scanBackward } from "./selective-scan-backward.js";

type Op = NonNullable<FusedOps["selectiveScan"]>;
type Args = Parameters<Op["forward"]>[0];
type Numbers = Float32Array | Float64Array;

/** States are kept every so many tokens; the backward pass recomputes the ones between. */
export const CHECKPOINT = 64;

/** An operand's rows: element c of row r is data[at(r) + c]. */
export interface Rows {
  readonly data: Numbers;
  readonly offset: number;
  readonly stride: number;
}

export interface ScanInputs {
  readonly x: Rows;
  readonly delta: Rows;
  readonly B: Rows;
  readonly C: Rows;
  readonly z: Rows | undefined;
  readonly A: Numbers;
  readonly D: Numbers | undefined;
  readonly deltaBias: Numbers | undefined;
  readonly initialState: Numbers | undefined;
  readonly marks: Int32Array | undefined;
}

export function scanInputs(memory: CpuMemory, args: Args): ScanInputs {
  const rows = (operand: Operand): Rows => ({
    data: floats(memory, operand),
    offset: operand.offset,
    stride: operand.rowStride,
  });
  const whole = (operand: Operand | undefined): Numbers | undefined =>
    operand === undefined ? undefined : floats(memory, operand);
  return {
    x: rows(args.x),
    delta: rows(args.delta),
    B: rows(args.B),
    C: rows(args.C),
    z: args.z === undefined ? undefined : rows(args.z),
    A: floats(memory, args.A),
    D: whole(args.D),
    deltaBias: whole(args.deltaBias),
    initialState: whole(args.initialState),
    marks: args.marks === undefined ? undefined : (read(memory, args.marks.buf) as Int32Array),
  };
}

/** The step sizes of one row, after bias and softplus. */
export function stepSizes(inputs: ScanInputs, row: number, d: SelectiveScanDescriptor, into: Float64Array): void {
  const { delta, deltaBias } = inputs;
  const at = delta.offset + row * delta.stride;
  for (let c = 0; c < d.dInner; c++) {
    const raw = delta.data[at + c]! + (deltaBias === undefined ? 0 : deltaBias[c]!);
    into[c] = d.softplus ? softplus(raw) : raw;
  }
}

/** The derivative of `stepSizes` with respect to its raw input. */
export function stepSizeGradient(inputs: ScanInputs, row: number, c: number, d: SelectiveScanDescriptor): number {
  if (!d.softplus) return 1;
  const { delta, deltaBias } = inputs;
  return softplusGradient(
    delta.data[delta.offset + row * delta.stride + c]! + (deltaBias === undefined ? 0 : deltaBias[c]!),
  );
}

/**
 * h = exp(delta A) h + delta B x for one token, in place; what exp gave goes to `decay` where the gradient will want it.
 */
export function advance(
  h: Float64Array,
  inputs: ScanInputs,
  row: number,
  steps: Float64Array,
  d: SelectiveScanDescriptor,
): void {
  const { x, B, A } = inputs;
  const { dInner, dState, groups } = d;
  const xAt = x.offset + row * x.stride;
  const bAt = B.offset + row * B.stride;
  const perGroup = dInner / groups;
  for (let c = 0, i = 0; c < dInner; c++) {
    const step = steps[c]!;
    const dx = step * x.data[xAt + c]!;
    const b = bAt + Math.floor(c / perGroup) * dState;
    for (let n = 0; n < dState; n++, i++) h[i] = Math.exp(step * A[i]!) * h[i]! + dx * B.data[b + n]!;
  }
}

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

export function startState(h: Float64Array, initial: Numbers | undefined, batch: number): void {
  if (initial === undefined) h.fill(0);
  else h.set(initial.subarray(batch * h.length, (batch + 1) * h.length));
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
