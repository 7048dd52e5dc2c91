import type { Buf, DType, FusedOps, LinearDescriptor, Operand } from "@mamba-ts/backend";
import type { CudaDevice } from "../device.js";
import { binary, fill } from "../elementwise.js";
import { i64, pointer } from "../launch.js";
import { type Matrix, product } from "../matmul.js";
import type { CudaBuf } from "../memory.js";
import { reduce } from "../reduce.js";
import { kept, withDType } from "./shared.js";

type Op = NonNullable<FusedOps["linear"]>;
type Args = Parameters<Op["forward"]>[0];

/** An operand [rows, columns], perhaps a slice of the last axis, as a factor of a product. */
export function matrixOf(device: CudaDevice, x: Operand, transposed = false): Matrix {
  return { buf: device.own(x), offset: x.offset, rowStride: x.rowStride, transposed, batchStride: 0 };
}

function zeros(device: CudaDevice, n: number, like: Operand): CudaBuf {
  return fill(device, [n], 0, kept(like.dtype)) as CudaBuf;
}

/** Rows up to which reading the weight is all that counts. */
const FEW = 4;

const stored: readonly DType[] = ["float32", "bf16", "f16"];

/** Whether kernels/linear takes it: few rows, a weight of any type that is read where it lies. */
function isMatvec({ rows, dtype, weightDtype, out }: LinearDescriptor): boolean {
  return rows <= FEW && out === "float32" && stored.includes(dtype) && stored.includes(weightDtype);
}

/** Mixed precision: a float32 weight is rounded to the type of x for the product alone. Its gradient is float32. */
function isNarrowed({ dtype, weightDtype }: LinearDescriptor): boolean {
  return weightDtype === "float32" && (dtype === "bf16" || dtype === "f16");
}

function matvec(device: CudaDevice, { x, weight, bias }: Args, d: LinearDescriptor): CudaBuf {
  const { rows, inFeatures, outFeatures, weightDtype } = d;
  if (bias !== undefined && bias.dtype !== "float32")
    return withDType(device, bias, "float32", (wide) => matvec(device, { x, weight, bias: wide }, d));
  const isHalf = x.dtype === weightDtype && x.dtype !== "float32" && inFeatures % 8 === 0;
  if (x.dtype !== "float32" && !isHalf)
    return withDType(device, x, "float32", (wide) => matvec(device, { x: wide, weight, bias }, d));
  const y = device.alloc(rows * outFeatures, "float32");
  const added = pointer(bias === undefined ? undefined : device.own(bias));
  const sizes = i64([rows, inFeatures, outFeatures, x.rowStride]);
  const parameters = [pointer(device.own(x), x.offset), device.own(weight), added, y, sizes];
  const grid = [Math.ceil(outFeatures / 4), Math.ceil(rows / FEW)] as const;
  device.launch(
    "matvec",
    `matvec${isHalf ? "_half" : ""}_${rows === 1 ? 1 : FEW}_${weightDtype}`,
    grid,
    [128],
    parameters,
    0,
    device.memory.isSettled(device.own(weight)) && "ends",
  );
  return y;
}

/** Products by cuBLASLt, of weights in the type of x; of few rows, by kernels of /kernels/linear. */
export function linear(device: CudaDevice): Op {
  return {
    supports: (d) =>
      d.inFeatures > 0 && (d.weightDtype === d.dtype || isNarrowed(d) ? { strided: ["x"] as const } : isMatvec(d)),
    supportsBackward: (d) => d.weightDtype === d.dtype || isNarrowed(d),
    backwardReads: () => ["x", "weight", "bias"],
    forward(args, d) {
      const { rows, inFeatures, outFeatures, out } = d;
      const isDense = args.x.offset === 0 && args.x.rowStride === inFeatures;
      // Its loads are of 16 bytes.
      const isAligned = args.x.dtype === "float32" && args.x.offset % 4 === 0 && args.x.rowStride % 4 === 0;
      if (isMatvec(d) && (isAligned || isDense)) return { outputs: { y: matvec(device, args, d) }, saved: [] };
      const y = device.alloc(rows * outFeatures, out);
      const size = { m: rows, n: outFeatures, k: inFeatures, batch: 1 };
      withDType(device, args.weight, d.dtype, (weight) =>
        product(device, matrixOf(device, args.x), matrixOf(device, weight, true), y, size),
      );
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
          if (outFeatures > 0)
            withDType(device, args.weight, dtype, (weight) =>
              product(device, matrixOf(device, g), matrixOf(device, weight), gx, size),
            );
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
