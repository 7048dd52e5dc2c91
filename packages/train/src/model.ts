import type { FloatDType } from "@mamba-ts/backend";
import type { Module, Recompute } from "@mamba-ts/nn";
import type { Tensor, TensorOwner } from "@mamba-ts/tensor";

/** A state that a language model hands on: opaque to training, which keeps, saves and frees it. */
export interface CarriedState extends TensorOwner, Disposable {
  clone(): CarriedState;
  save(): Promise<Uint8Array>;
}

/** What training needs of a language model; every language model of this project is one. `S` is its state. */
export interface LanguageModel<S extends CarriedState> extends Module {
  /** [vocabSize, dModel] */
  readonly headWeight: Tensor;
  forward(
    input: readonly ArrayLike<number>[],
    options: {
      readonly state?: NoInfer<S> | undefined;
      readonly segments?: readonly ArrayLike<number>[] | undefined;
      readonly logits: "none";
      readonly train: boolean;
      readonly recompute: Recompute;
      readonly dtype?: FloatDType | undefined;
    },
  ): {
    readonly hidden: Tensor;
    readonly state: S;
    /** A scalar that training adds to the loss: what keeps a router's load even. */
    readonly penalty?: Tensor;
  };
  restoreState(bytes: Uint8Array): Promise<S>;
}
