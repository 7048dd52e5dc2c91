import { type CausalConv1dDescriptor, type FloatDType, ShapeError, UnsupportedError } from "@mamba-ts/backend";
import { fill, range } from "../create.js";
import { dispatch, type FusedDefinition } from "../dispatch.js";
import { clearPadding } from "../marks.js";
import { withoutRecording } from "../recorder.js";
import { commonBackend, commonDType, expectFloat, expectInt } from "../run.js";
import { expectRank, expectShape, show } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { add, compare, mul } from "./binary.js";
import { gather } from "./gather.js";
import { concat } from "./join.js";
import { linearScan } from "./linear-scan.js";
import { cast, silu } from "./unary.js";
import { reshape, slice, unsqueeze } from "./view.js";
import { where } from "./where.js";

type Name = "x" | "weight" | "bias" | "initialState" | "marks";

const definition: FusedDefinition<CausalConv1dDescriptor, Name, "y" | "finalState"> = {
  name: "causalConv1d",
  outputs: ({ batch, length, channels, width, dtype }) => ({
    y: { shape: [batch, length, channels], dtype },
    finalState: { shape: [batch, width - 1, channels], dtype },
  }),
  compose({ x, weight, bias, initialState, marks }, { batch, length, channels, width, activation, dtype }) {
    const before = initialState ?? fill(x!.backend, [batch, width - 1, channels], 0, dtype);
    const all = concat([before, clearPadding(x!, marks)], 1); // [batch, width - 1 + length, channels]
    const taps = marks === undefined ? shiftedTaps(all, length) : realTaps(all, marks, width);
    let y: Tensor | undefined;
    for (let k = 0; k < width; k++) {
      const term = mul(taps.window(k), reshape(slice(weight!, 1, k, k + 1), [channels]));
      y = y === undefined ? term : add(y, term);
    }
    if (bias !== undefined) y = add(y!, bias);
    if (activation === "silu") y = silu(y!);
    return { y: clearPadding(y!, marks), finalState: taps.last };
  },
};

interface Taps {
  /** The inputs that weight[:, k] meets, [batch, length, channels]. */
  window(k: number): Tensor;
  /** [batch, width - 1, channels] */
  readonly last: Tensor;
}

function shiftedTaps(all: Tensor, length: number): Taps {
  return { window: (k) => slice(all, 1, k, k + length), last: slice(all, 1, length) };
}

/** With padding and new sequences inside, each window gathers the real tokens of its own sequence. */
function realTaps(all: Tensor, marks: Tensor, width: number): Taps {
  const [batch, total, channels] = all.shape as [number, number, number];
  const rows = reshape(all, [batch * total, channels]);
  const { back, tail } = withoutRecording(() => tapPositions(marks, batch, total, width));
  return {
    window: (k) => gather(rows, back[width - 1 - k]!, 0),
    last: tail === undefined ? slice(all, 1, 0, 0) : gather(rows, tail, 0),
  };
}

/**
 * Positions in [state, x], all rows flattened: `back[j]` is the j-th real token before each token of x (-1: none, reads as zeros),
 * [batch, length]; `tail` the last width - 1 of each row, [batch, width - 1]. Each position knows the real token before it, and
 * windows follow these links.
 */
function tapPositions(
  marks: Tensor,
  batch: number,
  total: number,
  width: number,
): { back: Tensor[]; tail: Tensor | undefined } {
  const { backend } = marks;
  if (total > 2 ** 24)
    throw new UnsupportedError("causalConv1d: rows of more than 2^24 tokens with marks", { hint: "split the row" });
  const local = range(backend, 0, total);
  const base = unsqueeze(mul(range(backend, 0, batch), total), 1); // [batch, 1]
  const own = add(base, local); // [batch, total]
  if (width === 1) return { back: [own], tail: undefined };
  const mark = concat([fill(backend, [batch, width - 1], 0, "int32"), marks], 1); // the carried tokens are real
  const isReal = compare("ge", mark, 0);
  // The last real position so far: a scan that holds at padding. Float32 counts exactly below 2^24.
  const held = cast(where(isReal, fill(backend, [], 0, "int32"), 1), "float32");
  const latest = add(base, cast(linearScan(held, cast(where(isReal, local, 0), "float32"), 1), "int32")); // [batch, total]
  const before = concat([fill(backend, [batch, 1], -1, "int32"), slice(latest, 1, 0, total - 1)], 1);
  const link = reshape(where(compare("gt", mark, 0), -1, before), [batch * total]);
  const stepBack = (at: Tensor): Tensor => where(compare("lt", at, 0), -1, gather(link, at, 0));
  const back = [slice(own, 1, width - 1)];
  for (let j = 1; j < width; j++) back.push(stepBack(back[j - 1]!));
  const ends = [slice(latest, 1, total - 1)];
  for (let j = 1; j < width - 1; j++) ends.unshift(stepBack(ends[0]!));
  return { back, tail: concat(ends, 1) };
}

/**
 * Causal depthwise convolution, y[t, c] = activation(bias[c] + sum_k weight[c, k] x[t - (width - 1) + k, c]), as before the scan in a
 * Mamba block (arXiv:2312.00752, fig. 3). Positions before the first are the carried inputs, or zeros. Channels come last: what has them first is
 * permuted before and after (docs/decisions/009).
 * @param args - x [batch, length, channels]; weight [channels, width]; bias? [channels]; initialState? [batch, width - 1, channels];
 * marks? int32 [batch, length], see `segmentMarks`: windows and the final state then hold real tokens of one sequence only
 * @returns y [batch, length, channels], 0 at padding; finalState [batch, width - 1, channels], the inputs a continuation needs
 */
export function causalConv1d(args: {
  readonly x: Tensor;
  readonly weight: Tensor;
  readonly bias?: Tensor | undefined;
  readonly initialState?: Tensor | undefined;
  readonly marks?: Tensor | undefined;
  readonly activation?: "none" | "silu";
}): { readonly y: Tensor; readonly finalState: Tensor } {
  const op = "causalConv1d";
  const { x, weight, bias, initialState, marks, activation = "none" } = args;
  commonBackend(op, [x, weight, ...[bias, initialState, marks].filter((t) => t !== undefined)]);
  expectFloat(op, x, "x");
  commonDType(op, [x, weight, ...[bias, initialState].filter((t) => t !== undefined)]);
  const [batch, length, channels] = expectRank(op, "x", x.shape, ["batch", "length", "channels"]) as [
    number,
    number,
    number,
  ];
  const width = expectRank(op, "weight", weight.shape, ["channels", "width"])[1]!;
  if (width < 1) throw new ShapeError(`${op}: weight is ${show(weight.shape)}; its width must be at least 1`);
  expectShape(op, "weight", weight.shape, [channels, width]);
  if (bias !== undefined) expectShape(op, "bias", bias.shape, [channels]);
  if (initialState !== undefined) expectShape(op, "initialState", initialState.shape, [batch, width - 1, channels]);
  if (marks !== undefined) {
    expectInt(op, marks, "marks");
    expectShape(op, "marks", marks.shape, [batch, length]);
  }
  const descriptor: CausalConv1dDescriptor = {
    batch,
    length,
    channels,
    width,
    dtype: x.dtype as FloatDType,
    activation,
    hasBias: bias !== undefined,
    hasInitialState: initialState !== undefined,
    hasMarks: marks !== undefined,
  };
  const { y, finalState } = dispatch(definition, { x, weight, bias, initialState, marks }, descriptor);
  return { y: y!, finalState: finalState! };
}
