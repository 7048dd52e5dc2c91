import type { Buf, DType, FusedOps, LinearDescriptor, Operand } from "@mamba-ts/backend";
import type { Located } from "../gpu/gpu.js";
import { reduceMiddle } from "../primitives/axis.js";
import { cast } from "../primitives/cast.js";
import { multiply } from "../primitives/matmul.js";
import type { WebGpuBuf, WebGpuMemory } from "../storage.js";
import { optional } from "./operands.js";

type Op = NonNullable<FusedOps["linear"]>;

/** WEIGHT in kernels/common/weight.wgsl. */
export const weightFormats: { readonly [K in DType]?: number } = { float32: 0, f16: 1, bf16: 2, q8_0: 3 };
/** Up to so many rows each read the weight for themselves; more share it in tiles. */
const FEW_ROWS = 8;
const MAX_GROUPS = 65_535;

/** An operand in float32: itself, or decoded into a buffer that `done` frees. */
export function inFloat32(
  memory: WebGpuMemory,
  operand: Operand,
): { readonly buf: WebGpuBuf; readonly done: () => void } {
  if (operand.dtype === "float32") return { buf: memory.own(operand.buf), done: () => {} };
  const buf = cast(memory, operand, "float32") as WebGpuBuf;
  return { buf, done: () => memory.free(buf) };
}

/** Elements that a thread reads at once, by format. */
const perPiece: { readonly [K in DType]?: number } = { float32: 4, f16: 8, bf16: 8, q8_0: 16 };
/** Threads that fill a large device. */
const MANY_THREADS = 2 ** 16;

/** Threads that share an output of a matrix-vector product: enough to fill the device, and each with something to read. */
export function lanesFor(outputs: number, k: number, weight: DType): number {
  const pieces = k / perPiece[weight]!;
  let lanes = 8;
  while (
    lanes < 256 &&
    pieces / lanes > 1 &&
    (lanes < 32 ? pieces / lanes > 4 || lanes * outputs < MANY_THREADS : lanes * outputs < MANY_THREADS)
  )
    lanes *= 2;
  return lanes;
}

/** Elements of a vector of k that lie in workgroup memory at once: a power of two, 8 KiB at most. */
export function stageFor(k: number): number {
  return Math.max(64, Math.min(2048, 2 ** Math.ceil(Math.log2(k))));
}

/** Workgroups in a grid whose third dimension counts rows. */
export function matvecGrid(outputs: number, lanes: number, rows: number): [number, number, number] {
  const groups = Math.ceil(outputs / (256 / lanes));
  const y = Math.ceil(groups / MAX_GROUPS);
  return [y === 0 ? 0 : Math.ceil(groups / y), y, rows];
}

/** y [rows, n] = x weight^T + bias, by the weight's own format. */
export function matvec(
  memory: WebGpuMemory,
  x: { readonly buf: Located; readonly start: number; readonly pitch: number },
  weight: Operand,
  bias: Located | undefined,
  y: WebGpuBuf,
  { rows, k, n }: { readonly rows: number; readonly k: number; readonly n: number },
): void {
  const LANES = lanesFor(n, k, weight.dtype);
  memory.gpu.run(
    "linear/matvec",
    { x: x.buf, weight: memory.own(weight.buf), bias, y },
    { k, n, x_start: x.start, x_pitch: x.pitch },
    {
      constants: {
        WEIGHT: weightFormats[weight.dtype]!,
        HAS_BIAS: Number(bias !== undefined),
        LANES,
        STAGE: stageFor(k),
      },
      grid: matvecGrid(n, LANES, rows),
    },
  );
}

function forward(memory: WebGpuMemory, args: Parameters<Op["forward"]>[0], d: LinearDescriptor): WebGpuBuf {
  const { rows, inFeatures: k, outFeatures: n } = d;
  const { x, weight } = args;
  const y = memory.alloc(rows * n, "float32");
  const bias = optional(memory, args.bias);
  if (rows <= FEW_ROWS) {
    matvec(memory, { buf: memory.own(x.buf), start: x.offset, pitch: x.rowStride }, weight, bias, y, { rows, k, n });
    return y;
  }
  const decoded = inFloat32(memory, weight);
  multiply(memory, {
    a: { buf: memory.own(x.buf), start: x.offset, row: x.rowStride, col: 1 },
    b: { buf: decoded.buf, row: 1, col: k },
    y: { buf: y, row: n },
    ...{ m: rows, n, k, bias },
  });
  decoded.done();
  return y;
}

/** y = x weight^T + bias for float32 activations and weights in any format: see kernels/linear and kernels/matmul. */
export function linear(memory: WebGpuMemory): Op {
  return {
    supports: ({ dtype, out, weightDtype }) =>
      dtype === "float32" && out === "float32" && weightFormats[weightDtype] !== undefined && { strided: ["x"] },
    supportsBackward: ({ weightDtype }) => weightDtype !== "q8_0",
    forward: (args, d) => {
      if (args.bias === undefined || args.bias.dtype === "float32")
        return { outputs: { y: forward(memory, args, d) }, saved: [] };
      const bias = inFloat32(memory, args.bias);
      const y = forward(memory, { ...args, bias: { ...args.bias, buf: bias.buf, dtype: "float32" } }, d);
      bias.done();
      return { outputs: { y }, saved: [] };
    },
    backward: (args, { rows, inFeatures: k, outFeatures: n }, _outputs, _saved, { y: gradY }, needs) => {
      const g = memory.own(gradY!.buf);
      const grads: { [K in "x" | "weight" | "bias"]?: Buf } = {};
      if (needs.has("x")) {
        const gx = memory.alloc(rows * k, "float32");
        const weight = inFloat32(memory, args.weight);
        multiply(memory, {
          a: { buf: g, row: n, col: 1 },
          b: { buf: weight.buf, row: k, col: 1 },
          y: { buf: gx, row: k },
          ...{ m: rows, n: k, k: n },
        });
        weight.done();
        grads.x = gx;
      }
      if (needs.has("weight")) {
        const gWeight = memory.alloc(n * k, "float32");
        multiply(memory, {
          a: { buf: g, row: 1, col: n },
          b: { buf: memory.own(args.x.buf), start: args.x.offset, row: args.x.rowStride, col: 1 },
          y: { buf: gWeight, row: k },
          ...{ m: n, n: k, k: rows },
        });
        grads.weight = gWeight;
      }
      if (needs.has("bias")) grads.bias = reduceMiddle(memory, "sum", g, "float32", 1, rows, n);
      return grads;
    },
  };
}
