import { type Buf, type FusedOps, type Operand, UnsupportedError } from "@mamba-ts/backend";
import { type Call, operation } from "../runtime/call.js";
import { weightFormats } from "../runtime/kernels.js";
import type { WasmMemory } from "../runtime/memory.js";

type Op = NonNullable<FusedOps["linear"]>;

/** A weight [rows, columns] as gemm reads it transposed: address, strides and format. */
export function weightOf(
  call: Call,
  weight: Operand,
): readonly [at: number, row: number, column: number, format: number] {
  const format = (weightFormats as readonly string[]).indexOf(weight.dtype);
  if (format < 0) throw new UnsupportedError(`wasm: no linear with weights in ${weight.dtype}`);
  return [call.at(weight), 1, weight.shape.at(-1)!, format];
}

/** y = x weight^T + bias, for a weight in any format, in float32; see kernels/matmul. */
export function linear(memory: WasmMemory): Op {
  return {
    supports: ({ dtype, weightDtype, out, inFeatures }) =>
      dtype === "float32" &&
      out !== "float64" &&
      (weightFormats as readonly string[]).includes(weightDtype) &&
      (weightDtype !== "q8_0" || inFeatures % 32 === 0)
        ? { strided: ["x"] }
        : false,
    supportsBackward: ({ weightDtype }) => weightDtype !== "q8_0",
    forward: (args, { rows, inFeatures, outFeatures, out }) =>
      operation(memory, (call) => {
        const y = call.result(rows * outFeatures, out);
        const bias = args.bias === undefined ? 0 : call.numbers(args.bias);
        call.kernels.gemm(
          ...([call.at(args.x), args.x.rowStride, 1, ...weightOf(call, args.weight)] as const),
          ...([y.at, outFeatures, rows, outFeatures, inFeatures, 0, bias] as const),
        );
        return { outputs: { y: y.finish() }, saved: [] };
      }),
    backward: (args, { rows, inFeatures, outFeatures }, _outputs, _saved, { y: gradY }, needs) =>
      operation(memory, (call) => {
        const g = call.numbers(gradY!);
        const grads: { [K in "x" | "weight" | "bias"]?: Buf } = {};
        if (needs.has("x")) {
          const gx = call.alloc(rows * inFeatures, "float32");
          call.kernels.gemm(
            ...([g, outFeatures, 1, call.numbers(args.weight), inFeatures, 1, 0] as const),
            ...([gx.at, inFeatures, rows, inFeatures, outFeatures, 0, 0] as const),
          );
          grads.x = gx;
        }
        if (needs.has("weight")) {
          const gWeight = call.alloc(outFeatures * inFeatures, "float32");
          call.kernels.gemm(
            ...([g, 1, outFeatures, call.at(args.x), args.x.rowStride, 1, 0] as const),
            ...([gWeight.at, inFeatures, outFeatures, inFeatures, rows, 0, 0] as const),
          );
          grads.weight = gWeight;
        }
        if (needs.has("bias")) {
          const gBias = call.alloc(outFeatures, "float32");
          call.kernels.reduce_sum(gBias.at, g, 1, rows, outFeatures);
          grads.bias = gBias;
        }
        return grads;
      }),
  };
}
