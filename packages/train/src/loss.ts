import { div, linearCrossEntropy, reshape, sum, type Tensor, tensor } from "@mamba-ts/tensor";
import type { Batch } from "./data.js";
import type { CarriedState, LanguageModel } from "./model.js";

export interface LossResult<S extends CarriedState> {
  /** Mean cross-entropy in nats over the targets that count. */
  readonly loss: Tensor;
  /** Number of those targets. */
  readonly targets: number;
  readonly state: S;
}

/**
 * Next-token cross-entropy of a language model on a batch; all logits are never held. Padding, and the first token of every segment
 * (which nothing before it predicts), are no targets.
 */
export function languageModelLoss<S extends CarriedState>(
  model: LanguageModel<S>,
  { tokens, segments }: Batch,
  { state, recompute = false }: { readonly state?: S | undefined; readonly recompute?: boolean } = {},
): LossResult<S> {
  const inputs = tokens.map((row) => row.subarray(0, row.length - 1));
  const ids = segments?.map((row) => row.subarray(0, row.length - 1));
  const targets = tokens.flatMap((row, r) =>
    Array.from(row.subarray(1), (id, t) => (isTarget(segments?.[r], t + 1) ? id : -1)),
  );
  const counted = targets.reduce((n, id) => n + (id >= 0 ? 1 : 0), 0);
  const result = model.forward(inputs, { logits: "none", train: true, recompute, state, segments: ids });
  const { hidden } = result; // [batch, length, dModel]
  const rows = reshape(hidden, [targets.length, hidden.shape.at(-1)!]);
  const losses = linearCrossEntropy(rows, model.headWeight, tensor(hidden.backend, Int32Array.from(targets)));
  return { loss: div(sum(losses), Math.max(1, counted)), targets: counted, state: result.state };
}

function isTarget(segments: Int32Array | undefined, t: number): boolean {
  return segments === undefined || (segments[t]! >= 0 && segments[t] === segments[t - 1]);
}
