/** What both directions of the scan need. */
import type { FusedOps, Operand, SelectiveScanDescriptor } from "@mamba-ts/backend";
import { softplus, softplusGradient } from "../functions.js";
import type { CpuMemory } from "../storage.js";
import { floats, read } from "../values.js";

type Args = Parameters<NonNullable<FusedOps["selectiveScan"]>["forward"]>[0];
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

export function startState(h: Float64Array, initial: Numbers | undefined, batch: number): void {
  if (initial === undefined) h.fill(0);
  else h.set(initial.subarray(batch * h.length, (batch + 1) * h.length));
}
