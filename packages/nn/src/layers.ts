import type { FloatDType } from "@mamba-ts/backend";
import {
  accumulationDType,
  cast,
  causalConv1d,
  gather,
  layerNorm,
  linear,
  type NormResult,
  reshape,
  rmsNorm,
  type Tensor,
} from "@mamba-ts/tensor";
import { constant, fanInUniform, type Initialiser, normal } from "./initialisers.js";
import { Module } from "./module.js";
import { Parameter } from "./parameter.js";

export interface LinearOptions {
  readonly bias?: boolean;
  /** Of the weight; PyTorch's default if absent. */
  readonly init?: Initialiser;
  readonly biasInit?: Initialiser;
  /** Whether the weight may be stored in blocks (`q8_0`); true by default. */
  readonly inBlocks?: boolean;
}

/** y = x weight^T + bias, weight [outFeatures, inFeatures]. */
export class Linear extends Module {
  readonly weight: Parameter;
  readonly bias?: Parameter;

  constructor(
    inFeatures: number,
    outFeatures: number,
    { bias = false, init, biasInit, inBlocks = true }: LinearOptions = {},
  ) {
    super();
    this.weight = new Parameter([outFeatures, inFeatures], { init: init ?? fanInUniform(inFeatures), inBlocks });
    if (bias)
      this.bias = new Parameter([outFeatures], { init: biasInit ?? constant(0), decay: false, keepFloat32: true });
  }

  /** @param x - [..., inFeatures]  @param out - dtype of the result, x's by default  @returns [..., outFeatures] */
  forward(x: Tensor, out?: FloatDType): Tensor {
    return linear(x, this.weight.value, { bias: this.bias?.value, ...(out === undefined ? {} : { out }) });
  }
}

/** Rows of a table, weight [count, width]. */
export class Embedding extends Module {
  readonly weight: Parameter;

  constructor(count: number, width: number, init: Initialiser = normal(0.02)) {
    super();
    this.weight = new Parameter([count, width], { init, inBlocks: true });
  }

  /** @param ids - int32 [...]; an id outside the table gives zeros  @returns [..., width] */
  forward(ids: Tensor): Tensor {
    return gather(this.weight.value, ids, 0);
  }
}

/** RMSNorm (arXiv:1910.07467). */
export class RmsNorm extends Module {
  readonly weight: Parameter;

  constructor(
    width: number,
    readonly eps: number,
  ) {
    super();
    this.weight = new Parameter([width], { init: constant(1), decay: false, keepFloat32: true });
  }

  /** @param x, residual - [..., width]  @returns the norm of x + residual, and the sum */
  forward(x: Tensor, residual?: Tensor): NormResult {
    return rmsNorm({ x, residual, weight: this.weight.value, eps: this.eps });
  }
}

/** Layer norm with weight and bias (arXiv:1607.06450). */
export class LayerNorm extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;

  constructor(
    width: number,
    readonly eps: number,
  ) {
    super();
    this.weight = new Parameter([width], { init: constant(1), decay: false, keepFloat32: true });
    this.bias = new Parameter([width], { init: constant(0), decay: false, keepFloat32: true });
  }

  /** @param x, residual - [..., width]  @returns the norm of x + residual, and the sum */
  forward(x: Tensor, residual?: Tensor): NormResult {
    return layerNorm({ x, residual, weight: this.weight.value, bias: this.bias.value, eps: this.eps });
  }
}

export interface ConvOptions {
  readonly bias: boolean;
  readonly activation?: "none" | "silu";
}

/** Causal depthwise convolution; its weight lies in checkpoints as [channels, 1, width]. */
export class CausalConv1d extends Module {
  readonly weight: Parameter;
  readonly bias?: Parameter;
  // A private field, since every other property of a module is taken for one of its parameters.
  readonly #activation: "none" | "silu";

  constructor(channels: number, width: number, { bias, activation = "none" }: ConvOptions) {
    super();
    // PyTorch's fan-in of a depthwise kernel is its width.
    this.weight = new Parameter([channels, 1, width], { init: fanInUniform(width), keepFloat32: true });
    if (bias) this.bias = new Parameter([channels], { init: fanInUniform(width), decay: false, keepFloat32: true });
    this.#activation = activation;
  }

  /** [channels, width] */
  get kernel(): Tensor {
    const [channels, , width] = this.weight.shape as [number, number, number];
    return reshape(this.weight.value, [channels, width]);
  }

  /**
   * @param x - [batch, length, channels]; state?, marks? as in `causalConv1d`
   * @returns y in x's dtype; the state in the given one's, float32 at least
   */
  forward(x: Tensor, state?: Tensor, marks?: Tensor): { readonly y: Tensor; readonly finalState: Tensor } {
    const { bias } = this;
    const like = (t: Tensor | undefined): Tensor | undefined => (t === undefined ? undefined : cast(t, x.dtype));
    const { y, finalState } = causalConv1d({
      x,
      weight: cast(this.kernel, x.dtype),
      bias: like(bias?.value),
      initialState: like(state),
      marks,
      activation: this.#activation,
    });
    return { y, finalState: cast(finalState, state?.dtype ?? accumulationDType(x.dtype)) };
  }
}
