import type { Buf, DType, FusedOps } from "@mamba-ts/backend";
import { gemm } from "../gemm.js";
import type { CpuMemory } from "../storage.js";
import { type Floats, floatOutput, floats, isPlain, outputOf, readRange } from "../values.js";

type Op = NonNullable<FusedOps["linear"]>;
/** A weight that has to be decoded is, so many of its rows at a time. */
const DECODED_ROWS = 256;

/** y = x weight^T + bias, for a weight in any format. */
export function linear(memory: CpuMemory): Op {
  return {
    supports: () => ({ strided: ["x"] }),
    supportsBackward: ({ weightDtype }) => weightDtype !== "q8_0",
    forward: (args, { rows, inFeatures, outFeatures, out: dtype }) => {
      const out = floatOutput(memory, rows * outFeatures, dtype);
      const y = out.values;
      const x = { data: floats(memory, args.x), offset: args.x.offset, rowStride: args.x.rowStride, columnStride: 1 };
      const step = isPlain(args.weight.dtype) ? outFeatures : DECODED_ROWS;
      for (let o = 0; o < outFeatures; o += step) {
        const n = Math.min(step, outFeatures - o);
        const data = readRange(memory, args.weight.buf, o * inFeatures, n * inFeatures) as Floats;
        gemm(x, { data, offset: 0, rowStride: 1, columnStride: inFeatures }, y, o, outFeatures, rows, n, inFeatures);
      }
      if (args.bias !== undefined) {
        const bias = floats(memory, args.bias);
        for (let r = 0, i = 0; r < rows; r++) for (let c = 0; c < outFeatures; c++, i++) y[i] = y[i]! + bias[c]!;
      }
      return { outputs: { y: out.finish() }, saved: [] };
    },
    backward: (args, { rows, inFeatures, outFeatures, dtype }, _outputs, _saved, { y: gradY }, needs) => {
      const g = floats(memory, gradY!);
      const result: { [K in "x" | "weight" | "bias"]?: Buf } = {};
      if (needs.has("x")) {
        const gx = floatOutput(memory, rows * inFeatures, dtype);
        const weight = { data: floats(memory, args.weight), offset: 0, rowStride: inFeatures, columnStride: 1 };
        gemm(
          { data: g, offset: 0, rowStride: outFeatures, columnStride: 1 },
          weight,
          gx.values,
          0,
          inFeatures,
          rows,
          inFeatures,
          outFeatures,
        );
        result.x = gx.finish();
      }
      if (needs.has("weight")) {
        const gWeight = floatOutput(memory, outFeatures * inFeatures, kept(args.weight.dtype));
        const x = { data: floats(memory, args.x), offset: args.x.offset, rowStride: args.x.rowStride, columnStride: 1 };
        gemm(
          { data: g, offset: 0, rowStride: 1, columnStride: outFeatures },
          x,
          gWeight.values,
          0,
          inFeatures,
          outFeatures,
          inFeatures,
          rows,
        );
        result.weight = gWeight.finish();
      }
      if (needs.has("bias")) {
        const sums = new Float64Array(outFeatures);
        for (let r = 0, i = 0; r < rows; r++) for (let c = 0; c < outFeatures; c++, i++) sums[c] = sums[c]! + g[i]!;
        result.bias = outputOf(memory, sums, kept(args.bias!.dtype));
      }
      return result;
    },
  };
}

/** Gradients of parameters are float32 at least. */
function kept(dtype: DType): "float32" | "float64" {
  return dtype === "float64" ? "float64" : "float32";
}
