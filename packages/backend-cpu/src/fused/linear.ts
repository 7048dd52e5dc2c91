import type { Buf, FusedOps } from "@mamba-ts/backend";
import { gemm } from "../gemm.js";
import type { CpuMemory } from "../storage.js";
import { floats, output } from "../values.js";

type Op = NonNullable<FusedOps["linear"]>;
type Numbers = Float32Array | Float64Array;

/** y = x weight^T + bias, for a weight in any format. */
export function linear(memory: CpuMemory): Op {
  return {
    supports: () => ({ strided: ["x"] }),
    supportsBackward: ({ weightDtype }) => weightDtype !== "q8_0",
    forward: (args, { rows, inFeatures, outFeatures, out: dtype }) => {
      const out = output(memory, rows * outFeatures, dtype);
      const y = out.values as Numbers;
      const x = { data: floats(memory, args.x), offset: args.x.offset, rowStride: args.x.rowStride, columnStride: 1 };
      const weight = { data: floats(memory, args.weight), offset: 0, rowStride: 1, columnStride: inFeatures };
      gemm(x, weight, y, 0, outFeatures, rows, outFeatures, inFeatures);
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
        const gx = output(memory, rows * inFeatures, dtype);
        const weight = { data: floats(memory, args.weight), offset: 0, rowStride: inFeatures, columnStride: 1 };
        gemm(
          { data: g, offset: 0, rowStride: outFeatures, columnStride: 1 },
          weight,
          gx.values as Numbers,
          0,
          inFeatures,
          rows,
          inFeatures,
          outFeatures,
        );
        result.x = gx.finish();
      }
      if (needs.has("weight")) {
        const gWeight = output(
          memory,
          outFeatures * inFeatures,
          args.weight.dtype === "float64" ? "float64" : "float32",
        );
        const x = { data: floats(memory, args.x), offset: args.x.offset, rowStride: args.x.rowStride, columnStride: 1 };
        gemm(
          { data: g, offset: 0, rowStride: 1, columnStride: outFeatures },
          x,
          gWeight.values as Numbers,
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
        const gBias = output(memory, outFeatures, args.bias!.dtype === "float64" ? "float64" : "float32");
        gBias.values.set(sums);
        result.bias = gBias.finish();
      }
      return result;
    },
  };
}
