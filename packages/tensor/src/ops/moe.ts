import type { FloatDType, MoeDescriptor } from "@mamba-ts/backend";
import { chunkLength, chunkRanges, GradientSum } from "../chunks.js";
import { fill, range } from "../create.js";
import { dispatch, type FusedDefinition } from "../dispatch.js";
import { withoutRecording } from "../recorder.js";
import { commonBackend, commonDType, expectFloat, expectInt } from "../run.js";
import { scope } from "../scope.js";
import { expectRank, expectShape } from "../shape.js";
import { vjp } from "../tape.js";
import type { Tensor } from "../tensor.js";
import { gelu } from "./activation.js";
import { add, compare, mul, sub } from "./binary.js";
import { gather, scatterAdd } from "./gather.js";
import { linearScan } from "./linear-scan.js";
import { matmul } from "./matmul.js";
import { sum } from "./reduce.js";
import { accumulationDType, cast, floor, relu, silu } from "./unary.js";
import { reshape, slice, unsqueeze } from "./view.js";
import { where } from "./where.js";

type Name = "x" | "indices" | "weights" | "gate" | "up" | "down";
type Args = { readonly [K in Name]?: Tensor | undefined };
const activations = { relu, silu, gelu };

/**
 * Rows of one block share an expert, so a block is one matrix product. Small blocks waste few rows on the last, partly filled block
 * of each expert; large ones gather each expert's weights less often.
 */
export function moeBlockRows({ tokens, topK, experts }: MoeDescriptor): number {
  const perExpert = (tokens * topK) / Math.max(1, experts);
  return Math.max(1, Math.min(64, 2 ** Math.floor(Math.log2(Math.max(1, perExpert / 8)))));
}

interface Grouping {
  /** int32 [blocks]: the block's expert; one beyond the last for blocks that are not used. */
  readonly blockExpert: Tensor;
  /** int32 [blocks, blockRows]: which of the tokens * topK choices sits in each row; -1 for none. */
  readonly slotChoice: Tensor;
  readonly blocks: number;
  readonly blockRows: number;
}

/**
 * Sorts choices by expert with counts and running sums alone: nothing is read back, and the number of blocks is the static bound
 * ceil(tokens topK / blockRows) + experts.
 */
function group(indices: Tensor, descriptor: MoeDescriptor): Grouping {
  const { tokens, topK, experts } = descriptor;
  const { backend } = indices;
  const blockRows = moeBlockRows(descriptor);
  const choices = tokens * topK;
  const blocks = Math.ceil(choices / blockRows) + experts;
  const expert = reshape(indices, [choices]);
  // Counting in float32 is exact below 2^24 choices.
  const chosen = cast(compare("eq", unsqueeze(expert, 1), range(backend, 0, experts)), "float32"); // [choices, experts]
  const running = linearScan(fill(backend, chosen.shape, 1), chosen, 0); // how many so far, this one included
  const rank = sub(sum(mul(running, chosen), 1), 1); // [choices], -1 where none is chosen
  const counts = sum(chosen, 0); // [experts]
  const blocksOf = floor(mul(add(counts, blockRows - 1), 1 / blockRows)); // exact: blockRows is a power of two
  const endBlock = linearScan(fill(backend, [experts], 1), blocksOf, 0); // [experts]
  const startBlock = sub(endBlock, blocksOf);
  const slot = add(mul(gather(startBlock, expert, 0), blockRows), rank);
  const valid = compare("ge", rank, 0);
  const slotIndex = where(valid, cast(slot, "int32"), -1); // [choices]
  // Each slot takes at most one choice, so adding (choice + 1) into zeros is a permutation; -1 stays where nothing was added.
  const filled = scatterAdd([blocks * blockRows], slotIndex, cast(add(range(backend, 0, choices), 1), "float32"), 0);
  const slotChoice = reshape(cast(sub(filled, 1), "int32"), [blocks, blockRows]);
  const isPast = cast(compare("ge", unsqueeze(cast(range(backend, 0, blocks), "float32"), 1), endBlock), "float32"); // [blocks, experts]
  return { blockExpert: cast(sum(isPast, 1), "int32"), slotChoice, blocks, blockRows };
}

/** Blocks start … end - 1, their weighted results added to their tokens' rows: [tokens, width]. */
function runBlocks(
  args: Args,
  { blockExpert, slotChoice, blockRows }: Grouping,
  start: number,
  end: number,
  d: MoeDescriptor,
): Tensor {
  const type = accumulationDType(d.dtype);
  const expert = slice(blockExpert, 0, start, end);
  const choice = slice(slotChoice, 0, start, end); // [blocks, blockRows]
  const token = withoutRecording(() => {
    const quotient = cast(floor(mul(add(cast(choice, "float32"), 0.5), 1 / d.topK)), "int32");
    return where(compare("lt", choice, 0), -1, quotient);
  });
  const x = gather(cast(args.x!, type), token, 0); // [blocks, blockRows, width]
  const project = (rows: Tensor, weight: Tensor): Tensor =>
    matmul(rows, cast(gather(weight, expert, 0), type), { transB: true });
  const activation = activations[d.activation];
  const up = project(x, args.up!); // [blocks, blockRows, hidden]
  const inner = args.gate === undefined ? activation(up) : mul(activation(project(x, args.gate)), up);
  const out = project(inner, args.down!); // [blocks, blockRows, width]
  const scale = gather(reshape(cast(args.weights!, type), [d.tokens * d.topK]), choice, 0); // [blocks, blockRows]
  const rows = reshape(mul(out, unsqueeze(scale, 2)), [(end - start) * blockRows, d.width]);
  return scatterAdd([d.tokens, d.width], reshape(token, [(end - start) * blockRows]), rows, 0);
}

function rangesOf(d: MoeDescriptor, { blocks, blockRows }: Grouping, like: Tensor) {
  const perBlock = Math.max(d.hidden * d.width, blockRows * Math.max(d.hidden, d.width));
  return chunkRanges(blocks, chunkLength(like.backend, perBlock * (d.dtype === "float64" ? 8 : 4), blocks));
}

const definition: FusedDefinition<MoeDescriptor, Name, "y"> = {
  name: "moe",
  outputs: ({ tokens, width, dtype }) => ({ y: { shape: [tokens, width], dtype } }),
  compose(args, d) {
    const grouping = group(args.indices!, d);
    let y = fill(args.x!.backend, [d.tokens, d.width], 0, accumulationDType(d.dtype));
    for (const { start, end } of rangesOf(d, grouping, args.x!)) {
      const before = y;
      y = scope(() => add(before, runBlocks(args, grouping, start, end, d)));
      before.dispose();
    }
    return { y: cast(y, d.dtype) };
  },
  composeBackward(args, d, { y: gy }, needs) {
    const grouping = group(args.indices!, d);
    const names = (["x", "weights", "gate", "up", "down"] as const).filter((name) => needs.has(name));
    const sums = names.map(() => new GradientSum());
    const g = cast(gy!, accumulationDType(d.dtype));
    for (const { start, end } of rangesOf(d, grouping, args.x!))
      scope(() => {
        const grads = vjp(
          () => [runBlocks(args, grouping, start, end, d)],
          names.map((name) => args[name]),
          [g],
        );
        for (const [i, grad] of grads.entries()) sums[i]!.add(grad);
      });
    return Object.fromEntries(names.map((name, i) => [name, sums[i]!.take()]));
  },
};

/**
 * Mixture of experts, y[i] = sum_j weights[i, j] E_k(x[i]) with k = indices[i, j]; only the chosen experts are computed.
 * E(x) = down (activation(gate x) * up x), or down activation(up x) without gate.
 * @param args - x [tokens, width]; indices int32 [tokens, topK], distinct in a row, -1 for a choice that was dropped; weights [tokens, topK];
 * gate?, up [experts, hidden, width]; down [experts, width, hidden]
 * @returns [tokens, width]
 */
export function moe(args: {
  readonly x: Tensor;
  readonly indices: Tensor;
  readonly weights: Tensor;
  readonly gate?: Tensor | undefined;
  readonly up: Tensor;
  readonly down: Tensor;
  readonly activation: MoeDescriptor["activation"];
}): Tensor {
  const op = "moe";
  const { x, indices, weights, gate, up, down, activation } = args;
  commonBackend(op, [x, indices, weights, up, down, ...(gate === undefined ? [] : [gate])]);
  expectFloat(op, x, "x");
  expectInt(op, indices, "indices");
  const dtype = commonDType(op, [x, weights]) as FloatDType;
  const [tokens, width] = expectRank(op, "x", x.shape, ["tokens", "width"]) as [number, number];
  const topK = expectRank(op, "indices", indices.shape, ["tokens", "topK"])[1]!;
  const [experts, hidden] = expectRank(op, "up", up.shape, ["experts", "hidden", "width"]) as [number, number, number];
  expectShape(op, "indices", indices.shape, [tokens, topK]);
  expectShape(op, "weights", weights.shape, [tokens, topK]);
  expectShape(op, "up", up.shape, [experts, hidden, width]);
  if (gate !== undefined) expectShape(op, "gate", gate.shape, up.shape);
  expectShape(op, "down", down.shape, [experts, width, hidden]);
  const descriptor = { tokens, width, hidden, experts, topK, dtype, activation, gated: gate !== undefined };
  return dispatch(definition, { x, indices, weights, gate, up, down }, descriptor).y!;
}
