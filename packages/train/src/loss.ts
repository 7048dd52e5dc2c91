import type { FloatDType } from "@mamba-ts/backend";
import type { Recompute } from "@mamba-ts/nn";
import { add, div, linearCrossEntropy, reshape, sum, type Tensor, tensor } from "@mamba-ts/tensor";
import type { Batch } from "./data.js";
import type { CarriedState, LanguageModel } from "./model.js";

export interface LossResult<S extends CarriedState> {
  /** Mean cross-entropy in nats over the targets that count, and the model's penalty if it has one and `train` is set. */
  readonly loss: Tensor;
  /** Number of those targets. */
  readonly targets: number;
  readonly state: S;
}

/**
 * Next-token cross-entropy of a language model on a batch; all logits are never held. Padding, and the first token of every segment
 * (which nothing before it predicts), are no targets. With `train` (by default) the model runs in training mode.
 */
export function languageModelLoss<S extends CarriedState>(
  model: LanguageModel<S>,
  { tokens, segments, targets: wanted }: Batch,
  {
    state,
    recompute = false,
    train = true,
    lastToken = false,
    dtype,
  }: {
    readonly state?: S | undefined;
    readonly recompute?: Recompute;
    readonly train?: boolean;
    /** Read the last token of each row too, which predicts nothing here but counts in a router's loss: as transformers' loss has it. */
    readonly lastToken?: boolean;
    /** Of the activations, see the model's `forward`. */
    readonly dtype?: FloatDType | undefined;
  } = {},
): LossResult<S> {
  const unread = lastToken ? 0 : 1;
  const inputs = tokens.map((row) => row.subarray(0, row.length - unread));
  const ids = segments?.map((row) => row.subarray(0, row.length - unread));
  const targets = new Int32Array(inputs.reduce((n, row) => n + row.length, 0));
  let [at, counted] = [0, 0];
  tokens.forEach((row, r) => {
    for (let t = 1; t < row.length; t++) {
      const id = wanted?.[r]?.[t] !== 0 && isTarget(segments?.[r], t) ? row[t]! : -1;
      if (id >= 0) counted++;
      targets[at++] = id;
    }
    if (lastToken) targets[at++] = -1;
  });
  const result = model.forward(inputs, { logits: "none", train, recompute, state, segments: ids, dtype });
  const { hidden, penalty } = result; // [batch, length, dModel]
  const rows = reshape(hidden, [targets.length, hidden.shape.at(-1)!]);
  const losses = linearCrossEntropy(rows, model.headWeight, tensor(hidden.backend, targets));
  const loss = div(sum(losses), Math.max(1, counted));
  return { loss: penalty === undefined ? loss : add(loss, penalty), targets: counted, state: result.state };
}

function isTarget(segments: Int32Array | undefined, t: number): boolean {
  return segments === undefined || (segments[t]! >= 0 && segments[t] === segments[t - 1]);
}
