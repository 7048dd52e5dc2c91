import type { FloatDType } from "@mamba-ts/backend";
import type { SegmentIds } from "@mamba-ts/mamba";
import type { Recompute } from "@mamba-ts/nn";
import type { Tensor } from "@mamba-ts/tensor";
import type { JambaState } from "./state.js";

/** How to run a Jamba. */
export interface JambaForwardOptions {
  /** The state to continue from; a fresh one by default. */
  readonly state?: JambaState | undefined;
  /** Advances this state in place (give the same one as `state`); refused while gradients are recorded. */
  readonly into?: JambaState | undefined;
  /** Ids [batch, length]. A change of id starts a new sequence; -1 is padding, anywhere. A continued state remembers its id. */
  readonly segments?: SegmentIds | undefined;
  /** Which logits to compute: of all positions, of each row's last real one, of the last so many positions, or none. "all" by default. */
  readonly logits?: "all" | "last" | "none" | number;
  /** Also return the input of every layer, and the stream after the final norm. */
  readonly hiddenStates?: boolean;
  /** What is computed again for the gradient instead of kept. */
  readonly recompute?: Recompute;
  /** What flows between the operations of a layer, see Mamba's `forward`; the stream's dtype by default. */
  readonly dtype?: FloatDType | undefined;
  /** Training mode: also return the routers' load-balancing loss. */
  readonly train?: boolean;
}

export interface JambaForwardResult {
  /** [batch, length, dModel], after the final norm. */
  readonly hidden: Tensor;
  /** [batch, positions, vocabSize] */
  readonly logits?: Tensor;
  readonly state: JambaState;
  /** nLayer + 1 tensors [batch, length, dModel]; the first is the embedding. */
  readonly hiddenStates?: readonly Tensor[];
  /** The routers' load-balancing loss over all layers with experts, a scalar; in training, where config.auxLoss asks for it. */
  readonly auxLoss?: Tensor;
  /** auxLoss times config.auxLossCoef: what training adds to the loss. */
  readonly penalty?: Tensor;
}
