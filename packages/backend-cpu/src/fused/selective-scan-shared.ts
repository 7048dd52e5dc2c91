/** What both directions of the scan need. */
import type { FusedOps, Operand, SelectiveScanDescriptor } from "@mamba-ts/backend";
import { softplus } from "../functions.js";
import type { CpuMemory } from "../storage.js";
import { type Floats, floats, optionalFloats, read } from "../values.js";

type Args = Parameters<NonNullable<FusedOps["selectiveScan"]>["forward"]>[0];

/** States are kept every so many tokens; the backward pass recomputes the ones between. */
export const CHECKPOINT = 64;

/**
 * An operand [rows, width], perhaps a slice of the last axis. A row at a time is brought into doubles: it costs little beside the
 * dState numbers computed for each of its elements, and the inner loops meet one type of array whatever the dtype.
 */
export class Rows {
  /** The row loaded last. */
  readonly row: Float64Array;
  readonly #data: Floats;
  readonly #operand: Operand;

  constructor(memory: CpuMemory, operand: Operand) {
    this.row = new Float64Array(operand.shape.at(-1)!);
    this.#data = floats(memory, operand);
    this.#operand = operand;
  }

  load(index: number): void {
    const [row, data] = [this.row, this.#data];
    const at = this.#operand.offset + index * this.#operand.rowStride;
    for (let c = 0; c < row.length; c++) row[c] = data[at + c]!;
  }
}

export interface ScanInputs {
  readonly x: Rows;
  readonly delta: Rows;
  readonly B: Rows;
  readonly C: Rows;
  readonly z: Rows | undefined;
  readonly A: Float64Array;
  readonly D: Float64Array | undefined;
  readonly deltaBias: Float64Array | undefined;
  readonly initialState: Floats | undefined;
  readonly marks: Int32Array | undefined;
}

export function scanInputs(memory: CpuMemory, args: Args): ScanInputs {
  const doubles = (operand: Operand | undefined): Float64Array | undefined =>
    operand === undefined ? undefined : Float64Array.from(floats(memory, operand));
  return {
    x: new Rows(memory, args.x),
    delta: new Rows(memory, args.delta),
    B: new Rows(memory, args.B),
    C: new Rows(memory, args.C),
    z: args.z === undefined ? undefined : new Rows(memory, args.z),
    A: Float64Array.from(floats(memory, args.A)),
    D: doubles(args.D),
    deltaBias: doubles(args.deltaBias),
    initialState: optionalFloats(memory, args.initialState),
    marks: args.marks === undefined ? undefined : (read(memory, args.marks.buf) as Int32Array),
  };
}

/** What token `row` does to the state: 0 continues it, 1 clears it first, -1 is padding. */
export function markOf({ marks }: ScanInputs, row: number): number {
  return marks === undefined ? 0 : marks[row]!;
}

/** The loaded token's step sizes, after bias and softplus. */
export function stepSizes(
  { delta: { row: delta }, deltaBias }: ScanInputs,
  d: SelectiveScanDescriptor,
  steps: Float64Array,
): void {
  for (let c = 0; c < delta.length; c++) {
    const raw = deltaBias === undefined ? delta[c]! : delta[c]! + deltaBias[c]!;
    steps[c] = d.softplus ? softplus(raw) : raw;
  }
}

/** The state of one row of the batch before its first token. */
export function startState(h: Float64Array, initial: Floats | undefined, batch: number): void {
  if (initial === undefined) h.fill(0);
  else h.set(initial.subarray(batch * h.length, (batch + 1) * h.length));
}
