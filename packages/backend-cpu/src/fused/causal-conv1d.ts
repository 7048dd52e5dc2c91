import type { Buf, CausalConv1dDescriptor, FusedOps } from "@mamba-ts/backend";
import { sigmoid } from "../functions.js";
import type { CpuMemory } from "../storage.js";
import { floatOutput } from "../values.js";
import { convBackward } from "./causal-conv1d-backward.js";
import { type ConvArgs, convInputs, convolve, tapsOf, withSource } from "./causal-conv1d-shared.js";

function forward(memory: CpuMemory, args: ConvArgs, d: CausalConv1dDescriptor): { y: Buf; finalState: Buf } {
  const { batch, length, channels, width } = d;
  const inputs = convInputs(memory, args, d);
  const y = floatOutput(memory, batch * length * channels, d.dtype);
  const final = floatOutput(memory, batch * (width - 1) * channels, d.dtype);
  const sums = new Float64Array(channels);
  for (let b = 0; b < batch; b++) {
    const taps = tapsOf(inputs, b, d);
    for (let t = 0; t < length; t++) {
      const row = (b * length + t) * channels;
      if (taps.at[t * width + width - 1]! < 0) {
        y.values.fill(0, row, row + channels);
        continue;
      }
      convolve(inputs, taps, t, b, d, sums);
      if (d.activation === "silu") for (let c = 0; c < channels; c++) sums[c] = sums[c]! * sigmoid(sums[c]!);
      y.values.set(sums, row);
    }
    for (let k = 0; k < width - 1; k++) {
      const to = (b * (width - 1) + k) * channels;
      final.values.fill(0, to, to + channels);
      withSource(inputs, taps.last[k]!, b, d, (data, from) =>
        final.values.set(data.subarray(from, from + channels), to),
      );
    }
  }
  return { y: y.finish(), finalState: final.finish() };
}

/** Causal depthwise convolution, a token at a time. */
export function causalConv1d(memory: CpuMemory): NonNullable<FusedOps["causalConv1d"]> {
  return {
    supports: () => ({ strided: ["x"] }),
    forward: (args, descriptor) => ({ outputs: forward(memory, args, descriptor), saved: [] }),
    backward: (args, descriptor, _outputs, _saved, gradOutputs, needs) =>
      convBackward(memory, args, descriptor, gradOutputs, needs),
  };
}
