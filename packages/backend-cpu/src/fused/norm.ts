import type { Buf, FusedOps, LayerNormDescriptor, Operand, RmsNormDescriptor } from "@mamba-ts/backend";
import type { CpuMemory } from "../storage.js";
import { type Floats, floatOutput, floats, optionalFloats as optional, outputOf } from "../values.js";

type RmsOp = NonNullable<FusedOps["rmsNorm"]>;
type LayerOp = NonNullable<FusedOps["layerNorm"]>;
type Args = { readonly [K in "x" | "weight" | "bias" | "residual"]?: Operand | undefined };
type Outputs = { readonly [K in "y" | "sum"]?: Operand };

/** What differs between the two norms: whether the mean is taken out. */
interface Statistics {
  readonly mean: number;
  /** 1 / sqrt(mean square + eps) of what is left. */
  readonly scale: number;
}

function statistics(s: Floats, at: number, width: number, eps: number, centred: boolean): Statistics {
  let mean = 0;
  if (centred) {
    for (let j = 0; j < width; j++) mean += s[at + j]!;
    mean /= width;
  }
  let squares = 0;
  for (let j = 0; j < width; j++) squares += (s[at + j]! - mean) ** 2;
  return { mean, scale: 1 / Math.sqrt(squares / width + eps) };
}

function forward(memory: CpuMemory, args: Args, d: RmsNormDescriptor, centred: boolean): { y: Buf; sum?: Buf } {
  const { rows, width, eps } = d;
  const x = floats(memory, args.x!);
  const residual = optional(memory, args.residual);
  const [weight, bias] = [optional(memory, args.weight), optional(memory, args.bias)];
  const y = floatOutput(memory, rows * width, d.dtype);
  const sum = residual === undefined ? undefined : floatOutput(memory, rows * width, d.residualDtype);
  if (sum !== undefined && residual !== undefined)
    for (let i = 0; i < rows * width; i++) sum.values[i] = x[i]! + residual[i]!;
  const s = sum === undefined ? x : sum.values;
  for (let r = 0; r < rows; r++) {
    const at = r * width;
    const { mean, scale } = statistics(s, at, width, eps, centred);
    for (let j = 0; j < width; j++) {
      const normal = (s[at + j]! - mean) * scale;
      y.values[at + j] = (weight === undefined ? normal : normal * weight[j]!) + (bias === undefined ? 0 : bias[j]!);
    }
  }
  return { y: y.finish(), ...(sum === undefined ? {} : { sum: sum.finish() }) };
}

/** With n = (s - mean) scale and g = gy weight: gs = scale (g - mean(g) - n mean(g n)), the middle term for layer norm only. */
function backward(
  memory: CpuMemory,
  args: Args,
  d: RmsNormDescriptor,
  outputs: Outputs,
  gradOutputs: Outputs,
  needs: ReadonlySet<string>,
  centred: boolean,
) {
  const { rows, width, eps } = d;
  const weight = optional(memory, args.weight);
  const s = floats(memory, d.hasResidual ? outputs.sum! : args.x!);
  const gy = optional(memory, gradOutputs.y);
  const gSum = optional(memory, gradOutputs.sum);
  const gs = floatOutput(memory, rows * width, d.hasResidual ? d.residualDtype : d.dtype);
  const gWeight = new Float64Array(width);
  const gBias = new Float64Array(width);
  for (let r = 0; r < rows; r++) {
    const at = r * width;
    const { mean, scale } = statistics(s, at, width, eps, centred);
    let meanG = 0;
    let meanGN = 0;
    if (gy !== undefined)
      for (let j = 0; j < width; j++) {
        const n = (s[at + j]! - mean) * scale;
        gWeight[j] = gWeight[j]! + gy[at + j]! * n;
        gBias[j] = gBias[j]! + gy[at + j]!;
        const g = gy[at + j]! * (weight === undefined ? 1 : weight[j]!);
        meanG += g;
        meanGN += g * n;
      }
    meanG = centred ? meanG / width : 0;
    meanGN /= width;
    for (let j = 0; j < width; j++) {
      const n = (s[at + j]! - mean) * scale;
      const g = gy === undefined ? 0 : gy[at + j]! * (weight === undefined ? 1 : weight[j]!);
      gs.values[at + j] = scale * (g - meanG - n * meanGN) + (gSum === undefined ? 0 : gSum[at + j]!);
    }
  }
  const result: { [K in "x" | "weight" | "bias" | "residual"]?: Buf } = {};
  const vector = (sums: Float64Array): Buf => outputOf(memory, sums, d.dtype === "float64" ? "float64" : "float32");
  if (needs.has("weight")) result.weight = vector(gWeight);
  if (needs.has("bias")) result.bias = vector(gBias);
  if (needs.has("x") && needs.has("residual")) result.x = outputOf(memory, gs.values, d.dtype);
  const whole = gs.finish();
  if (needs.has("residual")) result.residual = whole;
  else if (needs.has("x")) result.x = whole;
  else memory.free(whole);
  return result;
}

/** s / rms(s) * weight with s = x + residual. */
export function rmsNorm(memory: CpuMemory): RmsOp {
  return {
    supports: () => true,
    forward: (args, d) => ({ outputs: forward(memory, args, d, false), saved: [] }),
    backward: (args, d, outputs, _, gradOutputs, needs) =>
      backward(memory, args, d, outputs, gradOutputs, needs, false),
  };
}

/** (s - mean) / std * weight + bias with s = x + residual. */
export function layerNorm(memory: CpuMemory): LayerOp {
  return {
    supports: (_: LayerNormDescriptor) => true,
    forward: (args, d) => ({ outputs: forward(memory, args, d, true), saved: [] }),
    backward: (args, d, outputs, _, gradOutputs, needs) => backward(memory, args, d, outputs, gradOutputs, needs, true),
  };
}
