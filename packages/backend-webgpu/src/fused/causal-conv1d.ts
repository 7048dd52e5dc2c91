import type { Buf, CausalConv1dDescriptor, FusedOps } from "@mamba-ts/backend";
import { reduceMiddle } from "../primitives/axis.js";
import { place } from "../primitives/place.js";
import type { WebGpuBuf, WebGpuMemory } from "../storage.js";
import { optional, rowsOf, splitsFor } from "./operands.js";

type Op = NonNullable<FusedOps["causalConv1d"]>;
type Args = Parameters<Op["forward"]>[0];
type Backward = NonNullable<Op["backward"]>;

const MAX_WIDTH = 32;

function windowOf(args: Args, { length, channels, width, hasInitialState, hasMarks }: CausalConv1dDescriptor) {
  const { start, pitch } = rowsOf(args.x);
  return {
    length,
    channels,
    width,
    x_start: start,
    x_pitch: pitch,
    has_state: Number(hasInitialState),
    has_marks: Number(hasMarks),
  };
}

/** y, or with `gy` what reaches the taps of each window. */
function convolve(memory: WebGpuMemory, args: Args, d: CausalConv1dDescriptor, gy: WebGpuBuf | undefined): WebGpuBuf {
  const y = memory.alloc(d.batch * d.length * d.channels, "float32");
  memory.gpu.run(
    "causal-conv1d/forward",
    {
      x: memory.own(args.x.buf),
      weight: memory.own(args.weight.buf),
      bias: optional(memory, args.bias),
      state: optional(memory, args.initialState),
      marks: optional(memory, args.marks),
      gy,
      y,
    },
    { count: y.count, has_bias: Number(d.hasBias), ...windowOf(args, d) },
    {
      constants: { HAS_SILU: Number(d.activation === "silu"), GRADIENT: Number(gy !== undefined) },
      threads: y.count,
    },
  );
  return y;
}

function finalStateOf(memory: WebGpuMemory, args: Args, d: CausalConv1dDescriptor): WebGpuBuf {
  const y = memory.alloc(d.batch * (d.width - 1) * d.channels, "float32");
  memory.gpu.run(
    "causal-conv1d/final-state",
    { x: memory.own(args.x.buf), state: optional(memory, args.initialState), marks: optional(memory, args.marks), y },
    { count: y.count, ...windowOf(args, d) },
    { threads: y.count },
  );
  return y;
}

/** Sums over tokens: gweight [channels, width] and gbias [channels], one behind the other. */
function weightGradient(memory: WebGpuMemory, args: Args, d: CausalConv1dDescriptor, g: WebGpuBuf): WebGpuBuf {
  const { batch, length, channels, width } = d;
  const rows = batch * length;
  const tiles = Math.ceil(channels / 64);
  const splits = splitsFor(tiles, rows, 64, 1024);
  const size = channels * (width + 1);
  const parts = memory.alloc(splits * size, "float32");
  memory.gpu.run(
    "causal-conv1d/weight-gradient",
    {
      x: memory.own(args.x.buf),
      state: optional(memory, args.initialState),
      marks: optional(memory, args.marks),
      g,
      y: parts,
    },
    { rows, stretch: Math.ceil(rows / splits), ...windowOf(args, d) },
    { constants: { WIDTH: width }, grid: [tiles, splits, 1] },
  );
  const sums = reduceMiddle(memory, "sum", parts, "float32", 1, splits, size) as WebGpuBuf;
  memory.free(parts);
  return sums;
}

function backward(
  memory: WebGpuMemory,
  args: Args,
  d: CausalConv1dDescriptor,
  gradOutputs: Parameters<Backward>[4],
  needs: Parameters<Backward>[5],
): ReturnType<Backward> {
  const { batch, length, channels, width } = d;
  const gy = optional(memory, gradOutputs.y);
  const gfinal = optional(memory, gradOutputs.finalState);
  const g = gy === undefined ? undefined : convolve(memory, args, d, gy);
  const grads: { x?: Buf; initialState?: Buf; weight?: Buf; bias?: Buf } = {};
  const gx = memory.alloc(batch * length * channels, "float32");
  const gstate = memory.alloc(batch * (width - 1) * channels, "float32");
  const count = gx.count + gstate.count;
  memory.gpu.run(
    "causal-conv1d/input-gradient",
    { weight: memory.own(args.weight.buf), marks: optional(memory, args.marks), g, gfinal, gx, gstate },
    {
      ...{ count, length, channels, width },
      has_g: Number(g !== undefined),
      has_final: Number(gfinal !== undefined),
      has_marks: Number(d.hasMarks),
    },
    { threads: count },
  );
  grads.x = gx;
  grads.initialState = gstate;
  if (needs.has("weight") || needs.has("bias")) {
    const [gWeight, gBias] = [memory.alloc(channels * width, "float32"), memory.alloc(channels, "float32")];
    grads.weight = gWeight;
    grads.bias = gBias;
    if (g === undefined || length === 0) {
      for (const y of [gWeight, gBias])
        memory.gpu.run("fill/fill", { y }, { start: 0, count: y.count, word: 0 }, { threads: y.count });
    } else {
      const sums = weightGradient(memory, args, d, g);
      place(memory, sums, gWeight, { rows: 1, run: gWeight.count, x_pitch: 0, y_start: 0, y_pitch: 0 });
      const x_start = gWeight.count;
      place(memory, sums, gBias, { rows: 1, run: channels, x_start, x_pitch: 0, y_start: 0, y_pitch: 0 });
      memory.free(sums);
    }
  }
  if (g !== undefined) memory.free(g);
  for (const name of Object.keys(grads) as (keyof typeof grads)[])
    if (!needs.has(name)) {
      memory.free(grads[name]!);
      delete grads[name];
    }
  return grads;
}

/** Causal depthwise convolution: see kernels/causal-conv1d. */
export function causalConv1d(memory: WebGpuMemory): Op {
  return {
    supports: ({ dtype, width }) => dtype === "float32" && width <= MAX_WIDTH && { strided: ["x"] },
    forward: (args, d) => ({
      outputs: { y: convolve(memory, args, d, undefined), finalState: finalStateOf(memory, args, d) },
      saved: [],
    }),
    backward: (args, d, _outputs, _saved, gradOutputs, needs) => backward(memory, args, d, gradOutputs, needs),
  };
}
