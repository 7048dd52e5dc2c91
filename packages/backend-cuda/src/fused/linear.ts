import type { Buf, FusedOps, Operand } from "@mamba-ts/backend";
import type { CudaDevice } from "../device.js";
import { binary, fill } from "../elementwise.js";
import { type Matrix, product } from "../matmul.js";
import type { CudaBuf } from "../memory.js";
import { reduce } from "../reduce.js";
import { kept, withDType } from "./shared.js";

type Op = NonNullable<FusedOps["linear"]>;

/** An operand [rows, columns], perhaps a slice of the last axis, as a factor of a product. */
export function matrixOf(device: CudaDevice, x: Operand, transposed = false): Matrix {
  return { buf: device.own(x), offset: x.offset, rowStride: x.rowStride, transposed, batchStride: 0 };
}

function zeros(device: CudaDevice, n: number, like: Operand): CudaBuf {
  return fill(device, [n], 0, kept(like.dtype)) as CudaBuf;
}

/** Products by cuBLASLt, of weights in the type of x. */
export function linear(device: CudaDevice): Op {
  return {
    supports: (d) => d.weightDtype === d.dtype && d.inFeatures > 0 && { strided: ["x"] },
    forward(args, { rows, inFeatures, outFeatures, out }) {
      const y = device.alloc(rows * outFeatures, out);
      const size = { m: rows, n: outFeatures, k: inFeatures, batch: 1 };
      product(device, matrixOf(device, args.x), matrixOf(device, args.weight, true), y, size);
      if (args.bias === undefined) return { outputs: { y }, saved: [] };
      const dense = { buf: y, offset: 0, rowStride: outFeatures, shape: [rows, outFeatures], dtype: out };
      const biased = withDType(device, args.bias, out, (bias) => binary(device, "add", dense, bias));
      device.memory.free(y);
      return { outputs: { y: biased }, saved: [] };
    },
    backward(args, { rows, inFeatures, outFeatures, dtype }, _outputs, _saved, { y: gradY }, needs) {
      const result: { [K in "x" | "weight" | "bias"]?: Buf } = {};
      withDType(device, gradY!, dtype, (g) => {
        if (needs.has("x")) {
          const gx = device.alloc(rows * inFeatures, dtype);
          const size = { m: rows, n: inFeatures, k: outFeatures, batch: 1 };
          if (outFeatures > 0) product(device, matrixOf(device, g), matrixOf(device, args.weight), gx, size);
          result.x = gx;
        }
        if (needs.has("weight")) {
          const size = { m: outFeatures, n: inFeatures, k: rows, batch: 1 };
          if (rows === 0) result.weight = zeros(device, outFeatures * inFeatures, args.weight);
          else {
            const gWeight = device.alloc(outFeatures * inFeatures, kept(args.weight.dtype));
            product(device, matrixOf(device, g, true), matrixOf(device, args.x), gWeight, size);
            result.weight = gWeight;
          }
        }
      });
      if (needs.has("bias"))
        result.bias = withDType(device, gradY!, kept(args.bias!.dtype), (g) => reduce(device, "sum", g, 0));
      return result;
    },
  };
}
