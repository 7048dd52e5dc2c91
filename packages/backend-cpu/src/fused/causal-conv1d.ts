import type { Buf, CausalConv1dDescriptor, FusedOps, Operand } from "@mamba-ts/backend";
import { sigmoid, siluGradient } from "../functions.js";
import type { CpuMemory } from "../storage.js";
import { floats, type Output, output, read } from "../values.js";

type Op = NonNullable<FusedOps["causalConv1d"]>;
type Args = Parameters<Op["forward"]>[0];
type Numbers = Float32Array | Float64Array;

/**
 * Where the taps of one row of the batch lie: `at[t * width + k]` is the token weight k meets, as an index into [state, x];
 * -1 reads as 0. `last` are those a continuation needs.
 */
interface Taps {
  readonly at: Int32Array;
  readonly last: Int32Array;
}

function tapsOf(marks: Int32Array | undefined, b: number, { length, width }: CausalConv1dDescriptor): Taps {
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

interface Rows {
  readonly data: Numbers;
  readonly offset: number;
  readonly stride: number;
}

/** Start of token `at` ([state, x] of row b) in the array it lies in. */
function locate(
  at: number,
  b: number,
  x: Rows,
  state: Numbers | undefined,
  d: CausalConv1dDescriptor,
): { data: Numbers; from: number } | undefined {
  const carried = d.width - 1;
  if (at < 0) return undefined;
  if (at >= carried) return { data: x.data, from: x.offset + (b * d.length + at - carried) * x.stride };
  return state === undefined ? undefined : { data: state, from: (b * carried + at) * d.channels };
}

function rowsOf(memory: CpuMemory, operand: Operand): Rows {
  return { data: floats(memory, operand), offset: operand.offset, stride: operand.rowStride };
}

function convolve(
  taps: Taps,
  t: number,
  b: number,
  x: Rows,
  state: Numbers | undefined,
  weight: Numbers,
  bias: Numbers | undefined,
  d: CausalConv1dDescriptor,
  into: Float64Array,
): void {
  const { channels, width } = d;
  if (bias === undefined) into.fill(0);
  else into.set(bias);
  for (let k = 0; k < width; k++) {
    const source = locate(taps.at[t * width + k]!, b, x, state, d);
    if (source === undefined) continue;
    const { data, from } = source;
    for (let c = 0; c < channels; c++) into[c] = into[c]! + weight[c * width + k]! * data[from + c]!;
  }
}

function forward(memory: CpuMemory, args: Args, d: CausalConv1dDescriptor): { y: Buf; finalState: Buf } {
  const { batch, length, channels, width } = d;
  const x = rowsOf(memory, args.x);
  const weight = floats(memory, args.weight);
  const bias = args.bias === undefined ? undefined : floats(memory, args.bias);
  const state = args.initialState === undefined ? undefined : floats(memory, args.initialState);
  const marks = args.marks === undefined ? undefined : (read(memory, args.marks.buf) as Int32Array);
  const y = output(memory, batch * length * channels, d.dtype);
  const final = output(memory, batch * (width - 1) * channels, d.dtype);
  const sums = new Float64Array(channels);
  for (let b = 0; b < batch; b++) {
    const taps = tapsOf(marks, b, d);
    for (let t = 0; t < length; t++) {
      const row = (b * length + t) * channels;
      if (taps.at[t * width + width - 1]! < 0) {
        y.values.fill(0, row, row + channels);
        continue;
      }
      convolve(taps, t, b, x, state, weight, bias, d, sums);
      if (d.activation === "silu") for (let c = 0; c < channels; c++) y.values[row + c] = sums[c]! * sigmoid(sums[c]!);
      else y.values.set(sums, row);
    }
    for (let k = 0; k < width - 1; k++) {
      const to = (b * (width - 1) + k) * channels;
      const source = locate(taps.last[k]!, b, x, state, d);
      if (source === undefined) final.values.fill(0, to, to + channels);
      else for (let c = 0; c < channels; c++) final.values[to + c] = source.data[source.from + c]!;
    }
  }
  return { y: y.finish(), finalState: final.finish() };
}

const backward =
  (memory: CpuMemory): NonNullable<Op["backward"]> =>
  (args, d, _outputs, _saved, gradOutputs, needs) => {
    const { batch, length, channels, width } = d;
    const carried = width - 1;
    const x = rowsOf(memory, args.x);
    const weight = floats(memory, args.weight);
    const bias = args.bias === undefined ? undefined : floats(memory, args.bias);
    const state = args.initialState === undefined ? undefined : floats(memory, args.initialState);
    const marks = args.marks === undefined ? undefined : (read(memory, args.marks.buf) as Int32Array);
    const gy = gradOutputs.y === undefined ? undefined : floats(memory, gradOutputs.y);
    const gFinal = gradOutputs.finalState === undefined ? undefined : floats(memory, gradOutputs.finalState);
    const gx = output(memory, batch * length * channels, d.dtype);
    const gState = output(memory, batch * carried * channels, d.dtype);
    gx.values.fill(0);
    gState.values.fill(0);
    const gWeight = new Float64Array(channels * width);
    const gBias = new Float64Array(channels);
    const sums = new Float64Array(channels);
    const g = new Float64Array(channels);
    const gradientOf = (at: number, b: number): { values: Output["values"]; to: number } =>
      at >= carried
        ? { values: gx.values, to: (b * length + at - carried) * channels }
        : { values: gState.values, to: (b * carried + at) * channels };
    for (let b = 0; b < batch; b++) {
      const taps = tapsOf(marks, b, d);
      for (let t = 0; t < length && gy !== undefined; t++) {
        if (taps.at[t * width + width - 1]! < 0) continue;
        const row = (b * length + t) * channels;
        for (let c = 0; c < channels; c++) g[c] = gy[row + c]!;
        if (d.activation === "silu") {
          convolve(taps, t, b, x, state, weight, bias, d, sums);
          for (let c = 0; c < channels; c++) g[c] = g[c]! * siluGradient(sums[c]!, sigmoid(sums[c]!));
        }
        for (let c = 0; c < channels; c++) gBias[c] = gBias[c]! + g[c]!;
        for (let k = 0; k < width; k++) {
          const at = taps.at[t * width + k]!;
          const source = locate(at, b, x, state, d);
          if (source !== undefined)
            for (let c = 0; c < channels; c++)
              gWeight[c * width + k] = gWeight[c * width + k]! + g[c]! * source.data[source.from + c]!;
          if (at < 0) continue;
          const { values, to } = gradientOf(at, b);
          for (let c = 0; c < channels; c++) values[to + c] = values[to + c]! + weight[c * width + k]! * g[c]!;
        }
      }
      for (let k = 0; k < carried && gFinal !== undefined; k++) {
        const at = taps.last[k]!;
        if (at < 0) continue;
        const { values, to } = gradientOf(at, b);
        for (let c = 0; c < channels; c++) values[to + c] = values[to + c]! + gFinal[(b * carried + k) * channels + c]!;
      }
    }
    const asBuf = (sums64: Float64Array): Buf => {
      const out = output(memory, sums64.length, d.dtype);
      out.values.set(sums64);
      return out.finish();
    };
    const result: { x?: Buf; initialState?: Buf; weight?: Buf; bias?: Buf } = {};
    const gradX = gx.finish();
    const gradState = gState.finish();
    if (needs.has("x")) result.x = gradX;
    else memory.free(gradX);
    if (needs.has("initialState")) result.initialState = gradState;
    else memory.free(gradState);
    if (needs.has("weight")) result.weight = asBuf(gWeight);
    if (needs.has("bias")) result.bias = asBuf(gBias);
    return result;
  };

/** Causal depthwise convolution. */
export function causalConv1d(memory: CpuMemory): Op {
  return {
    supports: () => ({ strided: ["x"] }),
    forward: (args, descriptor) => ({ outputs: forward(memory, args, descriptor), saved: [] }),
    backward: backward(memory),
  };
}
