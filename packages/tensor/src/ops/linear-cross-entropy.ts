import type { FloatDType, LinearCrossEntropyDescriptor } from "@mamba-ts/backend";
import { chunkLength, chunkRanges, GradientSum } from "../chunks.js";
import { fill } from "../create.js";
import { dispatch, type FusedDefinition } from "../dispatch.js";
import { commonBackend, expectFloat, expectInt } from "../run.js";
import { scope } from "../scope.js";
import { expectRank, expectShape } from "../shape.js";
import { vjp } from "../tape.js";
import type { Tensor } from "../tensor.js";
import { compare, sub } from "./binary.js";
import { pick } from "./gather.js";
import { concat } from "./join.js";
import { linear } from "./linear.js";
import { matmul } from "./matmul.js";
import { logSumExp } from "./reduce.js";
import { accumulationDType, cast } from "./unary.js";
import { slice } from "./view.js";
import { where } from "./where.js";

type Name = "hidden" | "weight" | "targets";

/** The losses of a few rows: their logits exist, those of the other rows do not. */
function rowLosses(hidden: Tensor, weight: Tensor, targets: Tensor): Tensor {
  const type = accumulationDType(hidden.dtype);
  const logits =
    weight.dtype === "q8_0"
      ? linear(hidden, weight, { out: type })
      : matmul(cast(hidden, weight.dtype), weight, { transB: true, out: type }); // [rows, vocab]
  const nll = sub(logSumExp(logits, 1), pick(logits, targets));
  return where(compare("lt", targets, 0), 0, nll);
}

function rangesOf({ rows, vocab, dtype }: LinearCrossEntropyDescriptor, like: Tensor) {
  return chunkRanges(rows, chunkLength(like.backend, vocab * (dtype === "float64" ? 8 : 4), rows));
}

const definition: FusedDefinition<LinearCrossEntropyDescriptor, Name, "loss"> = {
  name: "linearCrossEntropy",
  outputs: ({ rows, dtype }) => ({ loss: { shape: [rows], dtype: accumulationDType(dtype) } }),
  compose({ hidden, weight, targets }, descriptor) {
    const losses = rangesOf(descriptor, weight!).map(({ start, end }) =>
      scope(() => rowLosses(slice(hidden!, 0, start, end), weight!, slice(targets!, 0, start, end))),
    );
    return {
      loss:
        losses.length === 0 ? fill(weight!.backend, [0], 0, accumulationDType(descriptor.dtype)) : concat(losses, 0),
    };
  },
  composeBackward({ hidden, weight, targets }, descriptor, { loss }, needs) {
    const gWeight = new GradientSum();
    const gHidden = rangesOf(descriptor, weight!).map(({ start, end }) =>
      scope(() => {
        const rows = slice(hidden!, 0, start, end);
        const [g, gw] = vjp(
          () => [rowLosses(rows, weight!, slice(targets!, 0, start, end))],
          [rows, weight!],
          [slice(loss!, 0, start, end)],
          [needs.has("hidden"), needs.has("weight")],
        );
        gWeight.add(gw);
        return g;
      }),
    );
    const known = gHidden.filter((g) => g !== undefined);
    return { hidden: known.length === 0 ? undefined : concat(known, 0), weight: gWeight.take() };
  },
};

/**
 * Cross-entropy of a linear head, loss[i] = logsumexp(weight hidden[i]) - weight[targets[i]] . hidden[i], without ever holding all logits.
 * @param hidden - [rows, width]  @param weight - [vocab, width]; a block format has no kernel here, and no gradient
 * @param targets - int32 [rows], each below vocab; a negative one is ignored and costs 0
 * @returns [rows], float32 (float64 for float64)
 */
export function linearCrossEntropy(hidden: Tensor, weight: Tensor, targets: Tensor): Tensor {
  const op = "linearCrossEntropy";
  commonBackend(op, [hidden, weight, targets]);
  expectFloat(op, hidden, "hidden");
  expectInt(op, targets, "targets");
  const [rows, width] = expectRank(op, "hidden", hidden.shape, ["rows", "width"]) as [number, number];
  const vocab = expectRank(op, "weight", weight.shape, ["vocab", "width"])[0]!;
  expectShape(op, "weight", weight.shape, [vocab, width]);
  expectShape(op, "targets", targets.shape, [rows]);
  const descriptor = { rows, width, vocab, dtype: hidden.dtype as FloatDType };
  if (weight.dtype === "q8_0") return scope(() => definition.compose({ hidden, weight, targets }, descriptor).loss!);
  const { loss } = dispatch(definition, { hidden, weight, targets }, descriptor);
  return loss!;
}
