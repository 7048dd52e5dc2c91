import { InvalidArgumentError } from "@mamba-ts/backend";
import type { Module, Parameter } from "@mamba-ts/nn";
import { adamW, keep, type Tensor, type TensorOwner, tensorsSymbol, zeros } from "@mamba-ts/tensor";

export interface AdamWOptions {
  readonly beta1?: number;
  readonly beta2?: number;
  readonly eps?: number;
  /** For parameters that decay: all but norms, biases, A_log and D. */
  readonly weightDecay?: number;
}

/** AdamW (arXiv:1711.05101) over a model's parameters, with the defaults of the Mamba paper: betas 0.9 and 0.95, decay 0.1. */
export class AdamW implements TensorOwner, Disposable {
  readonly names: readonly string[];
  readonly parameters: readonly Parameter[];
  readonly m: readonly Tensor[];
  readonly v: readonly Tensor[];
  readonly options: Required<AdamWOptions>;
  /** Steps taken so far. */
  step = 0;

  constructor(model: Module, { beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weightDecay = 0.1 }: AdamWOptions = {}) {
    for (const [name, value, top] of [
      ["beta1", beta1, 1],
      ["beta2", beta2, 1],
      ["weightDecay", weightDecay, Number.POSITIVE_INFINITY],
    ] as const)
      if (!(value >= 0 && value < top)) throw new InvalidArgumentError(`AdamW: ${name} is ${value}`);
    const named = [...model.namedParameters()];
    this.names = named.map(([name]) => name);
    this.parameters = named.map(([, parameter]) => parameter);
    const moments = () => this.parameters.map(({ value }) => keep(zeros(value.backend, value.shape, value.dtype)));
    this.m = moments();
    this.v = moments();
    this.options = { beta1, beta2, eps, weightDecay };
  }

  /** Updates all parameters in place. `gradScale` multiplies the gradients first: clipping, accumulation. */
  update(gradients: readonly Tensor[], lr: number, gradScale = 1): void {
    const { beta1, beta2, eps, weightDecay } = this.options;
    this.step++;
    adamW(
      { params: this.parameters.map((p) => p.value), grads: gradients, m: this.m, v: this.v },
      {
        lr,
        beta1,
        beta2,
        eps,
        step: this.step,
        gradScale,
        weightDecay: this.parameters.map((p) => (p.decay ? weightDecay : 0)),
      },
    );
  }

  [tensorsSymbol](): Tensor[] {
    return [...this.m, ...this.v];
  }

  dispose(): void {
    for (const t of this[tensorsSymbol]()) t.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
