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

function backward(
  device: CudaDevice,
  args: Args,
  d: CausalConv1dDescriptor,
  gradOutputs: { readonly [K in "y" | "finalState"]?: Operand },
): { [K in "x" | "weight" | "bias" | "initialState"]?: Buf } {
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
  const each = (width + 1) * channels;
  const parts = device.alloc(rows * each, "float32");
  const struct = convStruct(device, args, d, { gPre, parts });
  device.launch(FILE, `conv_weights_${dtype}`, [blocks, rows], [128], struct);
  const sums = reduce(
    device,
    "sum",
    { buf: parts, offset: 0, rowStride: each, shape: [rows, each], dtype: "float32" },
    0,
  );
  const own = sums as CudaBuf;
  // [width, channels] to [channels, width]
  const weight = transpose(device, own, 0, width, channels);
  const bias = device.alloc(channels, "float32");
  if (channels > 0) device.native.copy(bias.pointer, own.pointer + width * channels * 4, channels * 4);
  for (const buf of [gPre, parts, own]) device.memory.free(buf);
  return { x: gx, weight, bias, ...(gState === undefined ? {} : { initialState: gState }) };
}

/** Kernels of /kernels/causal-conv1d: widths to 8, slices of a projection, state and marks. */
export function causalConv1d(device: CudaDevice): Op {
  return {
    supports: (d) => d.dtype !== "float64" && d.width <= MAX_WIDTH && { strided: ["x"] },
    forward(args, d) {
      const y = device.alloc(d.batch * d.length * d.channels, d.dtype);
      const final = device.alloc(d.batch * (d.width - 1) * d.channels, d.dtype);
      const struct = convStruct(device, args, d, { y, final });
      device.each(FILE, `conv_forward_${d.dtype}`, y.count + final.count, struct);
      return { outputs: { y, finalState: final }, saved: [] };
    },
    backward(args, d, _outputs, _saved, gradOutputs, needs) {
      const all = Object.entries(backward(device, args, d, gradOutputs));
      for (const [name, buf] of all) if (!needs.has(name as never)) device.memory.free(buf);
      return Object.fromEntries(all.filter(([name]) => needs.has(name as never)));
    },
  };
}
