/** Gradient of the causal convolution: every window hands g = gy activation'(sums) to its taps, gx += weight g and gweight += g x. */
import type { Buf, CausalConv1dDescriptor, FusedOps } from "@mamba-ts/backend";
import { sigmoid, siluGradient } from "../functions.js";
import type { CpuMemory } from "../storage.js";
import { type Floats, floatOutput, optionalFloats, outputOf } from "../values.js";
import { type ConvArgs, convInputs, convolve, tapsOf, withSource } from "./causal-conv1d-shared.js";

type Backward = NonNullable<NonNullable<FusedOps["causalConv1d"]>["backward"]>;

/** sums[start + c] += g[c] x[from + c] */
function addToWeight(sums: Float64Array, start: number, g: Float64Array, x: Floats, from: number): void {
  for (let c = 0; c < g.length; c++) sums[start + c] = sums[start + c]! + g[c]! * x[from + c]!;
}

/** gx[to + c] += weight[start + c] g[c] */
function addToInput(gx: Floats, to: number, weight: Float64Array, start: number, g: Float64Array): void {
  for (let c = 0; c < g.length; c++) gx[to + c] = gx[to + c]! + weight[start + c]! * g[c]!;
}

/** See `FusedOp.backward`. */
export function convBackward(
  memory: CpuMemory,
  args: ConvArgs,
  d: CausalConv1dDescriptor,
  gradOutputs: Parameters<Backward>[4],
  needs: ReadonlySet<string>,
): ReturnType<Backward> {
  const { batch, length, channels, width } = d;
  const carried = width - 1;
  const inputs = convInputs(memory, args, d);
  const gy = optionalFloats(memory, gradOutputs.y);
  const gFinal = optionalFloats(memory, gradOutputs.finalState);
  const gx = floatOutput(memory, batch * length * channels, d.dtype);
  const gState = floatOutput(memory, batch * carried * channels, d.dtype);
  gx.values.fill(0);
  gState.values.fill(0);
  const gWeight = new Float64Array(width * channels); // [width, channels]
  const gBias = new Float64Array(channels);
  const sums = new Float64Array(channels);
  const g = new Float64Array(channels);
  const withGradient = (at: number, b: number, use: (values: Floats, to: number) => void): void => {
    if (at >= carried) use(gx.values, (b * length + at - carried) * channels);
    else if (at >= 0) use(gState.values, (b * carried + at) * channels);
  };
  for (let b = 0; b < batch; b++) {
    const taps = tapsOf(inputs, b, d);
    for (let t = 0; t < length && gy !== undefined; t++) {
      if (taps.at[t * width + width - 1]! < 0) continue;
      const row = (b * length + t) * channels;
      for (let c = 0; c < channels; c++) g[c] = gy[row + c]!;
      if (d.activation === "silu") {
        convolve(inputs, taps, t, b, d, sums);
        for (let c = 0; c < channels; c++) g[c] = g[c]! * siluGradient(sums[c]!, sigmoid(sums[c]!));
      }
      for (let c = 0; c < channels; c++) gBias[c] = gBias[c]! + g[c]!;
      for (let k = 0; k < width; k++) {
        const at = taps.at[t * width + k]!;
        withSource(inputs, at, b, d, (x, from) => addToWeight(gWeight, k * channels, g, x, from));
        withGradient(at, b, (values, to) => addToInput(values, to, inputs.weight, k * channels, g));
      }
    }
    for (let k = 0; k < carried && gFinal !== undefined; k++)
      withGradient(taps.last[k]!, b, (values, to) => {
        for (let c = 0; c < channels; c++) values[to + c] = values[to + c]! + gFinal[(b * carried + k) * channels + c]!;
      });
  }
  const result: { x?: Buf; initialState?: Buf; weight?: Buf; bias?: Buf } = {};
  const [gradX, gradState] = [gx.finish(), gState.finish()];
  if (needs.has("x")) result.x = gradX;
  else memory.free(gradX);
  if (needs.has("initialState")) result.initialState = gradState;
  else memory.free(gradState);
  if (needs.has("weight")) result.weight = outputOf(memory, transposed(gWeight, width, channels), d.dtype);
  if (needs.has("bias")) result.bias = outputOf(memory, gBias, d.dtype);
  return result;
}

function transposed(a: Float64Array, rows: number, columns: number): Float64Array {
  const y = new Float64Array(a.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) y[c * rows + r] = a[r * columns + c]!;
  return y;
}
