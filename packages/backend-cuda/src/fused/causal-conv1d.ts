import type { Buf, CausalConv1dDescriptor, FusedOps, Operand } from "@mamba-ts/backend";
import type { CudaDevice } from "../device.js";
import { i64, type Parameter, pointer } from "../launch.js";
import type { CudaBuf } from "../memory.js";
import { reduce } from "../reduce.js";
import { transpose } from "./shared.js";

type Op = NonNullable<FusedOps["causalConv1d"]>;
type Args = Parameters<Op["forward"]>[0];
const FILE = "causal_conv1d";
/** Sums that a thread of `conv_weights` keeps in registers. */
const MAX_WIDTH = 8;
/** Channels a thread takes where it keeps their window in registers. */
const LANES = 4;

interface Results {
  readonly y?: CudaBuf;
  readonly final?: CudaBuf;
  readonly gy?: CudaBuf | undefined;
  readonly gFinal?: CudaBuf | undefined;
  readonly gPre?: CudaBuf | undefined;
  readonly gx?: CudaBuf;
  readonly gState?: CudaBuf | undefined;
  readonly parts?: CudaBuf | undefined;
}

/** `struct Conv` of the kernels. */
function convStruct(device: CudaDevice, args: Args, d: CausalConv1dDescriptor, r: Results): Parameter[] {
  const at = (x: Operand | undefined): Parameter =>
    x === undefined ? pointer(undefined) : pointer(device.own(x), x.offset);
  return [
    ...[args.x, args.weight, args.bias, args.initialState, args.marks].map(at),
    i64([args.x.rowStride, d.batch, d.length, d.channels, d.width, Number(d.activation === "silu")]),
    ...[r.y, r.final, r.gy, r.gFinal, r.gPre, r.gx, r.gState, r.parts].map((x) => pointer(x)),
  ];
}

/** Tokens a thread takes one after the other, where the kernels with the window in registers take the case; else undefined. */
function runLength(device: CudaDevice, args: Args, d: CausalConv1dDescriptor): number | undefined {
  const { batch, length, channels, width, hasMarks } = d;
  const isAligned = channels % LANES === 0 && args.x.rowStride % LANES === 0 && args.x.offset % LANES === 0;
  if (hasMarks || length === 0 || width < 2 || width > 4 || !isAligned) return undefined;
  const wanted = Math.floor((batch * length * channels) / LANES / (1024 * device.info.multiprocessors));
  return Math.max(Math.min(64, Math.max(16, wanted)), Math.ceil((batch * length) / 60_000));
}

/** Launches a kernel that takes runs of tokens. */
function runs(
  device: CudaDevice,
  kernel: string,
  args: Args,
  d: CausalConv1dDescriptor,
  r: Results,
  length: number,
): void {
  const grid = [Math.ceil(d.channels / LANES / 128), d.batch * Math.ceil(d.length / length)] as const;
  device.launch(FILE, `${kernel}_${d.width}_${d.dtype}`, grid, [128], [...convStruct(device, args, d, r), i64(length)]);
}

type GradOutputs = { readonly [K in "y" | "finalState"]?: Operand };
type Grads = { [K in "x" | "weight" | "bias" | "initialState"]?: Buf };

/** One pass that finds everything. */
function backwardRuns(
  device: CudaDevice,
  args: Args,
  d: CausalConv1dDescriptor,
  gradOutputs: GradOutputs,
  run: number,
): Grads {
  const { batch, length, channels, width, dtype } = d;
  const given = (x: Operand | undefined): CudaBuf | undefined => (x === undefined ? undefined : device.own(x));
  const gx = device.alloc(batch * length * channels, dtype);
  const gState = d.hasInitialState ? device.alloc(batch * (width - 1) * channels, dtype) : undefined;
  const rows = batch * Math.ceil(length / run);
  const parts = device.alloc(rows * (width + 1) * channels, "float32");
  const [gy, gFinal] = [given(gradOutputs.y), given(gradOutputs.finalState)];
  runs(device, "conv_backward_runs", args, d, { gy, gFinal, gx, gState, parts }, run);
  return { x: gx, ...joined(device, parts, rows, d), ...(gState === undefined ? {} : { initialState: gState }) };
}

/** The gradients of weight and bias from parts [rows, width + 1, channels], which are freed. */
function joined(device: CudaDevice, parts: CudaBuf, rows: number, { width, channels }: CausalConv1dDescriptor) {
  const each = (width + 1) * channels;
  const source = { buf: parts, offset: 0, rowStride: each, shape: [rows, each], dtype: "float32" } as const;
  const sums = reduce(device, "sum", source, 0) as CudaBuf;
  // [width, channels] to [channels, width]
  const weight = transpose(device, sums, 0, width, channels);
  const bias = device.alloc(channels, "float32");
  if (channels > 0) device.native.copy(bias.pointer, sums.pointer + width * channels * 4, channels * 4);
  for (const buf of [parts, sums]) device.memory.free(buf);
  return { weight, bias };
}

function backward(device: CudaDevice, args: Args, d: CausalConv1dDescriptor, gradOutputs: GradOutputs): Grads {
  const { batch, length, channels, width, dtype } = d;
  const elements = batch * length * channels;
  const carried = batch * (width - 1) * channels;
  const given = (x: Operand | undefined): CudaBuf | undefined => (x === undefined ? undefined : device.own(x));
  const [gy, gFinal] = [given(gradOutputs.y), given(gradOutputs.finalState)];
  const gPre = device.alloc(elements, dtype);
  const gx = device.alloc(elements, dtype);
  const gState = d.hasInitialState ? device.alloc(carried, dtype) : undefined;
  const run = (kernel: string, n: number, r: Results): void =>
    device.each(FILE, `${kernel}_${dtype}`, n, convStruct(device, args, d, r));
  if (gy === undefined) {
    if (gPre.room > 0) device.native.set(gPre.pointer, 0, gPre.byteLength);
  } else run("conv_before", elements, { gy, gPre });
  run("conv_inputs", elements + carried, { gFinal, gPre, gx, gState });
  const blocks = Math.ceil(channels / 128);
  const rows = Math.max(
    1,
    Math.min(Math.ceil((batch * length) / 16), Math.ceil((8 * device.info.multiprocessors) / blocks)),
  );
  const parts = device.alloc(rows * (width + 1) * channels, "float32");
  const struct = convStruct(device, args, d, { gPre, parts });
  device.launch(FILE, `conv_weights_${dtype}`, [blocks, rows], [128], struct);
  device.memory.free(gPre);
  return { x: gx, ...joined(device, parts, rows, d), ...(gState === undefined ? {} : { initialState: gState }) };
}

/** Kernels of /kernels/causal-conv1d: widths to 8, slices of a projection, state and marks. */
export function causalConv1d(device: CudaDevice): Op {
  return {
    supports: (d) => d.dtype !== "float64" && d.width <= MAX_WIDTH && { strided: ["x"] },
    forward(args, d) {
      const y = device.alloc(d.batch * d.length * d.channels, d.dtype);
      const final = device.alloc(d.batch * (d.width - 1) * d.channels, d.dtype);
      const run = runLength(device, args, d);
      if (run !== undefined) {
        runs(device, "conv_forward_runs", args, d, { y, final }, run);
        return { outputs: { y, finalState: final }, saved: [] };
      }
      const struct = convStruct(device, args, d, { y, final });
      device.each(FILE, `conv_forward_${d.dtype}`, y.count + final.count, struct);
      return { outputs: { y, finalState: final }, saved: [] };
    },
    backward(args, d, _outputs, _saved, gradOutputs, needs) {
      const run = gradOutputs.y === undefined ? undefined : runLength(device, args, d);
      const all = Object.entries(
        run === undefined ? backward(device, args, d, gradOutputs) : backwardRuns(device, args, d, gradOutputs, run),
      );
      for (const [name, buf] of all) if (!needs.has(name as never)) device.memory.free(buf);
      return Object.fromEntries(all.filter(([name]) => needs.has(name as never)));
    },
  };
}
