/** What both directions of the convolution need: where its windows lie, and their weighted sums. */
import type { CausalConv1dDescriptor, FusedOps, Operand } from "@mamba-ts/backend";
import type { CpuMemory } from "../storage.js";
import { type Floats, floats, optionalFloats, read } from "../values.js";

export type ConvArgs = Parameters<NonNullable<FusedOps["causalConv1d"]>["forward"]>[0];

/**
 * Where the taps of one row of the batch lie: `at[t * width + k]` is the token weight k meets, as an index into [state, x];
 * -1 reads as 0, and where even the last tap is -1 the token is padding. `last` are those a continuation needs.
 */
export interface Taps {
  readonly at: Int32Array;
  readonly last: Int32Array;
}

export interface ConvInputs {
  readonly x: Floats;
  readonly operand: Operand;
  /** [width, channels], so that a tap's weights lie side by side */
  readonly weight: Float64Array;
  readonly bias: Float64Array | undefined;
  readonly state: Floats | undefined;
  readonly marks: Int32Array | undefined;
}

export function convInputs(memory: CpuMemory, args: ConvArgs, { channels, width }: CausalConv1dDescriptor): ConvInputs {
  const rows = floats(memory, args.weight); // [channels, width]
  const weight = new Float64Array(rows.length);
  for (let c = 0; c < channels; c++) for (let k = 0; k < width; k++) weight[k * channels + c] = rows[c * width + k]!;
  return {
    x: floats(memory, args.x),
    operand: args.x,
    weight,
    bias: args.bias === undefined ? undefined : Float64Array.from(floats(memory, args.bias)),
    state: optionalFloats(memory, args.initialState),
    marks: args.marks === undefined ? undefined : (read(memory, args.marks.buf) as Int32Array),
  };
}

/** The windows of row `b` of the batch. */
export function tapsOf({ marks }: ConvInputs, b: number, { length, width }: CausalConv1dDescriptor): Taps {
  const at = new Int32Array(length * width).fill(-1);
  const window = new Int32Array(width).fill(-1); // the latest `width` real tokens, oldest first
  for (let k = 0; k < width - 1; k++) window[k + 1] = k;
  for (let t = 0; t < length; t++) {
    const mark = marks === undefined ? 0 : marks[b * length + t]!;
    if (mark < 0) continue;
    if (mark > 0) window.fill(-1);
    window.copyWithin(0, 1);
    window[width - 1] = width - 1 + t;
    at.set(window, t * width);
  }
  return { at, last: window.slice(1) };
}

/** Calls `use` with the array that token `at` ([state, x] of row b) lies in and its start there; not at all where it reads as 0. */
export function withSource(
  { x, operand, state }: ConvInputs,
  at: number,
  b: number,
  { length, channels, width }: CausalConv1dDescriptor,
  use: (data: Floats, from: number) => void,
): void {
  const carried = width - 1;
  if (at >= carried) use(x, operand.offset + (b * length + at - carried) * operand.rowStride);
  else if (at >= 0 && state !== undefined) use(state, (b * carried + at) * channels);
}

/** bias + sum_k weight[k] x[tap k], for token t of row b. */
export function convolve(
  inputs: ConvInputs,
  taps: Taps,
  t: number,
  b: number,
  d: CausalConv1dDescriptor,
  sums: Float64Array,
): void {
  const { weight, bias } = inputs;
  if (bias === undefined) sums.fill(0);
  else sums.set(bias);
  for (let k = 0; k < d.width; k++)
    withSource(inputs, taps.at[t * d.width + k]!, b, d, (data, from) =>
      addProducts(sums, weight, k * d.channels, data, from),
    );
}

function addProducts(sums: Float64Array, weight: Float64Array, w: number, data: Floats, from: number): void {
  for (let c = 0; c < sums.length; c++) sums[c] = sums[c]! + weight[w + c]! * data[from + c]!;
}
