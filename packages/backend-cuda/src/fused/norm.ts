import type { Buf, FusedOps, Operand, RmsNormDescriptor } from "@mamba-ts/backend";
import type { CudaDevice } from "../device.js";
import { cast } from "../elementwise.js";
import { f64, i32, i64, pointer } from "../launch.js";
import type { CudaBuf } from "../memory.js";
import { reduce } from "../reduce.js";
import { kept } from "./shared.js";

type Args = { readonly [K in "x" | "weight" | "bias" | "residual"]?: Operand | undefined };
type Outputs = { readonly [K in "y" | "sum"]?: Operand };
type Grads = { [K in "x" | "weight" | "bias" | "residual"]?: Buf };

/** Pairs of dtypes of x and of the residual stream that have kernels. */
function isSupported({ dtype, residualDtype }: RmsNormDescriptor): boolean {
  return dtype === residualDtype || (residualDtype === "float32" && dtype !== "float64");
}

/** A weight in the type of the statistics, and what to free afterwards. */
function wide(
  device: CudaDevice,
  x: Operand | undefined,
  type: "float32" | "float64",
  made: Buf[],
): CudaBuf | undefined {
  if (x === undefined || x.dtype === type) return x === undefined ? undefined : device.own(x);
  const buf = cast(device, x, type) as CudaBuf;
  made.push(buf);
  return buf;
}

/** Quads of a row that a thread holds, for which there are kernels: of a warp a row, of a block of 256 threads a row. */
const WARP_QUADS = [2, 6, 8, 16];
const BLOCK_QUADS = [1, 2, 4];
/** The smallest of them for rows that so many threads can hold; undefined for others. */
function quadsFor(d: RmsNormDescriptor, sizes: readonly number[], threads: number): number | undefined {
  const isWide = (d.hasResidual ? d.residualDtype : d.dtype) === "float32" && d.dtype !== "float64";
  return isWide && d.width % 4 === 0 && d.rows > 0 ? sizes.find((n) => 4 * threads * n >= d.width) : undefined;
}

/** Kernel, blocks and threads a block of rows held in registers, forward: a warp each, or a block each where they are few and wide. */
function heldRows(device: CudaDevice, d: RmsNormDescriptor): readonly [string, number, number] | undefined {
  const isFew = d.rows <= 2 * device.info.multiprocessors && d.width > 512;
  const few = isFew ? quadsFor(d, BLOCK_QUADS, 256) : undefined;
  if (few !== undefined) return [`norm_forward_few_${few}_${d.dtype}`, d.rows, 256];
  const quads = quadsFor(d, WARP_QUADS, 32);
  return quads === undefined ? undefined : [`norm_forward_rows_${quads}_${d.dtype}`, Math.ceil(d.rows / 4), 128];
}

function forward(device: CudaDevice, args: Args, d: RmsNormDescriptor, centred: boolean) {
  const { rows, width, eps, dtype, residualDtype } = d;
  const made: Buf[] = [];
  const type = kept(dtype);
  const y = device.alloc(rows * width, dtype);
  const sum = d.hasResidual ? device.alloc(rows * width, residualDtype) : undefined;
  const residual = args.residual === undefined ? undefined : device.own(args.residual);
  const [weight, bias] = [wide(device, args.weight, type, made), wide(device, args.bias, type, made)];
  const parameters = [device.own(args.x!), ...[residual, weight, bias, y, sum].map((b) => pointer(b))];
  const numbers = [i64(width), f64(eps), i32(centred)];
  const held = heldRows(device, d);
  if (held !== undefined) {
    const [kernel, blocks, threads] = held;
    device.launch("norm", kernel, [blocks], [threads], [...parameters, i64(rows), ...numbers], 0, "ends");
  } else device.launch("norm", `norm_forward_${dtype}_${residualDtype}`, [rows], [256], [...parameters, ...numbers]);
  for (const buf of made) device.memory.free(buf);
  return { outputs: { y, ...(sum === undefined ? {} : { sum }) }, saved: [] };
}

function backward(
  device: CudaDevice,
  args: Args,
  d: RmsNormDescriptor,
  outputs: Outputs,
  gradOutputs: Outputs,
  needs: ReadonlySet<string>,
  centred: boolean,
): Grads {
  const { rows, width, eps, dtype, residualDtype } = d;
  const made: Buf[] = [];
  const type = kept(dtype);
  const blocks = Math.max(1, Math.min(rows, device.info.multiprocessors * 4));
  const parts = device.alloc(blocks * 2 * width, type);
  const gs = device.alloc(rows * width, residualDtype);
  const needsBoth = d.hasResidual && needs.has("x");
  const gx = needsBoth ? device.alloc(rows * width, dtype) : undefined;
  const given = (x: Operand | undefined): CudaBuf | undefined => (x === undefined ? undefined : device.own(x));
  const s = device.own(d.hasResidual ? outputs.sum! : args.x!);
  const weight = wide(device, args.weight, type, made);
  const parameters = [
    s,
    ...[weight, given(gradOutputs.y), given(gradOutputs.sum), gs, gx, parts].map((b) => pointer(b)),
  ];
  const numbers = [i64([rows, width]), f64(eps), i32(centred)];
  const quads = gradOutputs.y === undefined ? undefined : quadsFor(d, WARP_QUADS, 32);
  if (quads !== undefined)
    device.launch(
      "norm",
      `norm_backward_rows_${quads}_${centred ? "layer" : "rms"}_${dtype}`,
      [blocks],
      [128],
      [...parameters, ...numbers.slice(0, 2)],
      8 * width,
    );
  else device.launch("norm", `norm_backward_${dtype}_${residualDtype}`, [blocks], [256], [...parameters, ...numbers]);
  const result: Grads = {};
  if (needs.has("weight") || needs.has("bias")) {
    const shape = [blocks, 2 * width];
    const both = reduce(
      device,
      "sum",
      { buf: parts, offset: 0, rowStride: 2 * width, shape, dtype: type },
      0,
    ) as CudaBuf;
    const half = (i: number): CudaBuf => {
      const buf = device.alloc(width, type);
      const bytes = width * buf.bytesEach;
      if (bytes > 0) device.native.copy(buf.pointer, both.pointer + i * bytes, bytes);
      return buf;
    };
    if (needs.has("weight")) result.weight = half(0);
    if (needs.has("bias")) result.bias = half(1);
    device.memory.free(both);
  }
  for (const buf of [...made, parts]) device.memory.free(buf);
  if (gx !== undefined) result.x = gx;
  if (needs.has("residual")) result.residual = gs;
  else if (needs.has("x") && gx === undefined) result.x = gs;
  else device.memory.free(gs);
  return result;
}

/** What `backward` reads: what was normalised, and the weight. */
function backwardReads({ hasResidual }: RmsNormDescriptor) {
  return hasResidual ? (["sum", "weight"] as const) : (["x", "weight"] as const);
}

/** Kernels of /kernels/norm. */
export function rmsNorm(device: CudaDevice): NonNullable<FusedOps["rmsNorm"]> {
  return {
    supports: isSupported,
    backwardReads,
    forward: (args, d) => forward(device, args, d, false),
    backward: (args, d, outputs, _, gradOutputs, needs) =>
      backward(device, args, d, outputs, gradOutputs, needs, false),
  };
}

/** The same kernels, with the mean taken out. */
export function layerNorm(device: CudaDevice): NonNullable<FusedOps["layerNorm"]> {
  return {
    supports: isSupported,
    backwardReads,
    forward: (args, d) => forward(device, args, d, true),
    backward: (args, d, outputs, _, gradOutputs, needs) => backward(device, args, d, outputs, gradOutputs, needs, true),
  };
}
