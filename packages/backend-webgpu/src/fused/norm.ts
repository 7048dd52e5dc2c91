import type { Buf, FusedOps, LayerNormDescriptor, Operand, RmsNormDescriptor } from "@mamba-ts/backend";
import { reduceMiddle } from "../primitives/axis.js";
import { place } from "../primitives/place.js";
import { threadsFor } from "../shapes.js";
import type { WebGpuBuf, WebGpuMemory } from "../storage.js";
import { optional, rowsOf, splitsFor } from "./operands.js";

type Op = NonNullable<FusedOps["layerNorm"]>;
type Args = Parameters<Op["forward"]>[0];
type Name = "x" | "weight" | "bias" | "residual";

const supports = ({ dtype, residualDtype, width }: RmsNormDescriptor) =>
  dtype === "float32" && residualDtype === "float32" && width > 0 && { strided: ["x" as const] };

function forward(memory: WebGpuMemory, args: Args, d: RmsNormDescriptor, isLayer: boolean, save: boolean) {
  const { rows, width, eps, hasResidual, hasWeight } = d;
  const { start, pitch } = rowsOf(args.x);
  const y = memory.alloc(rows * width, "float32");
  const sum = hasResidual ? memory.alloc(rows * width, "float32") : undefined;
  const stats = memory.alloc(2 * rows, "float32");
  memory.gpu.run(
    "norm/forward",
    {
      x: memory.own(args.x.buf),
      residual: optional(memory, args.residual),
      weight: optional(memory, args.weight),
      bias: optional(memory, args.bias),
      y,
      total: sum,
      stats,
    },
    { rows, width, x_start: start, x_pitch: pitch, eps },
    {
      constants: {
        THREADS: threadsFor(width),
        IS_LAYER: Number(isLayer),
        HAS_RESIDUAL: Number(hasResidual),
        HAS_WEIGHT: Number(hasWeight),
        HAS_BIAS: Number(args.bias !== undefined),
      },
      groups: rows,
    },
  );
  if (!save) memory.free(stats);
  return { outputs: sum === undefined ? { y } : { y, sum }, saved: save ? [stats as Buf] : [] };
}

function backward(
  memory: WebGpuMemory,
  args: Args,
  { rows, width, hasWeight }: RmsNormDescriptor,
  isLayer: boolean,
  outputs: { readonly sum?: Operand },
  saved: readonly Buf[],
  gradOutputs: { readonly [K in "y" | "sum"]?: Operand },
  needs: ReadonlySet<Name>,
): { [K in Name]?: Buf } {
  const summed = outputs.sum ?? args.x;
  const { start: s_start, pitch: s_pitch } = rowsOf(summed);
  const s = memory.own(summed.buf);
  const stats = memory.own(saved[0]!);
  const [gy, gsum] = [optional(memory, gradOutputs.y), optional(memory, gradOutputs.sum)];
  const grads: { [K in Name]?: Buf } = {};
  if (needs.has("x") || needs.has("residual")) {
    const gs = memory.alloc(rows * width, "float32");
    memory.gpu.run(
      "norm/backward",
      { s, weight: optional(memory, args.weight), gy, gsum, stats, gs },
      { rows, width, s_start, s_pitch },
      {
        constants: {
          THREADS: threadsFor(width),
          IS_LAYER: Number(isLayer),
          HAS_WEIGHT: Number(hasWeight),
          HAS_GY: Number(gy !== undefined),
          HAS_GSUM: Number(gsum !== undefined),
        },
        groups: rows,
      },
    );
    if (needs.has("x")) grads.x = gs;
    if (needs.has("residual")) grads.residual = needs.has("x") ? memory.share(gs) : gs;
  }
  const wanted = (["weight", "bias"] as const).filter((name) => needs.has(name));
  if (wanted.length > 0) {
    const sums =
      gy === undefined ? undefined : weightGradients(memory, s, gy, stats, { rows, width, s_start, s_pitch });
    for (const name of wanted) {
      const y = memory.alloc(width, "float32");
      if (sums === undefined)
        memory.gpu.run("fill/fill", { y }, { start: 0, count: width, word: 0 }, { threads: width });
      else
        place(memory, sums, y, {
          rows: 1,
          run: width,
          x_start: name === "weight" ? 0 : width,
          x_pitch: 0,
          y_start: 0,
          y_pitch: 0,
        });
      grads[name] = y;
    }
    if (sums !== undefined) memory.free(sums);
  }
  return grads;
}

/** [2, width]: of the weight and of the bias. */
function weightGradients(
  memory: WebGpuMemory,
  s: WebGpuBuf,
  gy: WebGpuBuf,
  stats: WebGpuBuf,
  at: { readonly rows: number; readonly width: number; readonly s_start: number; readonly s_pitch: number },
): WebGpuBuf {
  const tiles = Math.ceil(at.width / 64);
  const splits = splitsFor(tiles, at.rows, 32, 1024);
  const parts = memory.alloc(splits * 2 * at.width, "float32");
  const stretch = Math.ceil(at.rows / splits);
  memory.gpu.run("norm/weight-gradient", { s, gy, stats, y: parts }, { ...at, stretch }, { grid: [tiles, splits, 1] });
  const sums = reduceMiddle(memory, "sum", parts, "float32", 1, splits, 2 * at.width) as WebGpuBuf;
  memory.free(parts);
  return sums;
}

function normOp(memory: WebGpuMemory, isLayer: boolean): Op {
  return {
    supports,
    forward: (args, d, { save }) => forward(memory, args, d, isLayer, save),
    backward: (args, d, outputs, saved, gradOutputs, needs) =>
      backward(memory, args, d, isLayer, outputs, saved, gradOutputs, needs),
  };
}

/** RMS norm with the residual's addition: see kernels/norm. */
export function rmsNorm(memory: WebGpuMemory): NonNullable<FusedOps["rmsNorm"]> {
  const op = normOp(memory, false);
  return {
    supports,
    forward: (args, d, options) => op.forward(args, { ...d, hasBias: false } satisfies LayerNormDescriptor, options),
    backward: (args, d, outputs, saved, gradOutputs, needs) =>
      op.backward!(args, { ...d, hasBias: false }, outputs, saved, gradOutputs, needs),
  };
}

/** Layer norm with the residual's addition: see kernels/norm. */
export function layerNorm(memory: WebGpuMemory): Op {
  return normOp(memory, true);
}
