import type { Backend } from "@mamba-ts/backend";
import { Mamba, type MambaConfig, type ResolvedMambaConfig } from "@mamba-ts/mamba";
import type { Work } from "./harness.js";

/** The shape of the model that comes with the command line, with random weights: speed does not depend on their values. */
export const shippedShape: MambaConfig = { dModel: 96, nLayer: 3, dState: 8, vocabSize: 256 };

export function makeModel(backend: Backend, dtype: "float32" | "float64" = "float32"): Mamba {
  return Mamba.create(shippedShape, { backend, seed: 1, dtype });
}

export function shapeOf({ dModel, nLayer, dState }: ResolvedMambaConfig): string {
  return `dModel ${dModel}, nLayer ${nLayer}, dState ${dState}`;
}

/**
 * What one token cannot do without. A matrix takes as many multiply-adds as it has weights. The scan takes three per state (delta A,
 * the update of h, C h) and one exp; softplus of delta and the two SiLUs one exp per channel each.
 */
export function forwardWork({ dModel, nLayer, dInner, dState, dtRank, dConv, vocabSize }: ResolvedMambaConfig): Work {
  const weights = 3 * dModel * dInner + dInner * (dtRank + 2 * dState) + dtRank * dInner + dConv * dInner;
  return {
    "multiply-adds": nLayer * (weights + 3 * dInner * dState) + dModel * vocabSize,
    exps: nLayer * dInner * (dState + 3),
  };
}

/**
 * The same for a token of a training step: twice as much again for the gradients of inputs and weights; the states and their exps
 * once more on the way back, and again from the end of the sequence to its start; the loss takes one exp per logit, both ways.
 */
export function trainingWork(config: ResolvedMambaConfig): Work {
  const forward = forwardWork(config);
  return {
    "multiply-adds": 3 * forward["multiply-adds"]!,
    exps: 3 * forward["exps"]! - config.nLayer * config.dInner * 3 + 2 * config.vocabSize,
  };
}
