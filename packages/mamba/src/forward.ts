import type { FloatDType } from "@mamba-ts/backend";
import type { Recompute } from "@mamba-ts/nn";
import type { Tensor } from "@mamba-ts/tensor";
import type { SegmentIds } from "./segments.js";
import type { MambaState } from "./state.js";

/** How to run a Mamba. */
export interface ForwardOptions {
  /** The state to continue from; a fresh one by default. */
  readonly state?: MambaState | undefined;
  /** Advances this state in place (give the same one as `state`); refused while gradients are recorded. */
  readonly into?: MambaState | undefined;
  /**
   * Ids [batch, length] (rows, or all in one array). A change of id starts a new sequence; -1 is padding. A continued state remembers
   * its id. Padding may stand anywhere.
   */
  readonly segments?: SegmentIds | undefined;
  /** Which logits to compute: of all positions, of each row's last real one, or none. "all" by default. */
  readonly logits?: "all" | "last" | "none";
  /** "all": also return the state at the end of every segment. */
  readonly states?: "last" | "all";
  /** Also return the residual stream after every layer, the last one after the final norm. */
  readonly hiddenStates?: boolean;
  /** What is computed again for the gradient instead of kept. */
  readonly recompute?: Recompute;
  /**
   * What flows between the operations of a layer, whatever the weights are stored in: bf16 takes half of float32's memory and the matrix
   * units of a GPU. The residual stream, the state and the inside of the scan stay float32. The stream's dtype by default.
   */
  readonly dtype?: FloatDType | undefined;
  /** Training mode; a Mamba has no dropout, so nothing depends on it. */
  readonly train?: boolean;
}

/** The state a segment of a packed row ends in. */
export interface SegmentState {
  readonly row: number;
  readonly id: number;
  readonly state: MambaState;
}

export interface ForwardResult {
  /** [batch, length, dModel], after the final norm, in the dtype that was asked for. */
  readonly hidden: Tensor;
  /** [batch, length or 1, vocabSize], in the stream's dtype. */
  readonly logits?: Tensor;
  readonly state: MambaState;
  readonly segmentStates?: readonly SegmentState[];
  readonly hiddenStates?: readonly Tensor[];
}
