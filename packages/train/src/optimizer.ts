import { InvalidArgumentError } from "@mamba-ts/backend";
import type { Module, Parameter } from "@mamba-ts/nn";
import { adamW, keep, type Tensor, type TensorOwner, tensorsSymbol, zeros } from "@mamba-ts/tensor";

export interface AdamWOptions {
  readonly beta1?: number;
  readonly beta2?: number;
  readonly eps?: number;
  /** For parameters that decay: all but norms, biases, A_log and D. */
  readonly weightDecay?: number;
  /** Parameters with a rate or decay of their own; the first group whose `match` accepts a name counts. */
  readonly groups?: readonly ParameterGroup[];
}

/** Parameters that are trained differently, such as the A, B and step sizes of state spaces. */
export interface ParameterGroup {
  /** By the name in a checkpoint, as `s4_layers.0.layer.kernel.A_real`. */
  match(name: string): boolean;
  /** Times the schedule's learning rate; 1 by default. 0 leaves the parameters as they are. */
  readonly rateScale?: number;
  /** Instead of the optimizer's; parameters that do not decay still do not. */
  readonly weightDecay?: number;
}

/** AdamW (arXiv:1711.05101) over a model's parameters, with the defaults of the Mamba paper: betas 0.9 and 0.95, decay 0.1. */
export class AdamW implements TensorOwner, Disposable {
  readonly names: readonly string[];
  readonly parameters: readonly Parameter[];
  readonly m: readonly Tensor[];
  readonly v: readonly Tensor[];
  readonly options: Required<AdamWOptions>;
  /** Of each parameter. */
  readonly #weightDecay: readonly number[];
  /** Positions of the parameters, by how the learning rate is scaled for them. */
  readonly #rates = new Map<number, number[]>();
  /** Steps taken so far. */
  step = 0;

  constructor(
    model: Module,
    { beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weightDecay = 0.1, groups = [] }: AdamWOptions = {},
  ) {
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
    this.options = { beta1, beta2, eps, weightDecay, groups };
    const groupOf = this.names.map((name) => groups.find((group) => group.match(name)));
    this.#weightDecay = this.parameters.map(({ decay }, i) => (decay ? (groupOf[i]?.weightDecay ?? weightDecay) : 0));
    for (const [i, group] of groupOf.entries()) {
      const scale = group?.rateScale ?? 1;
      if (!(scale >= 0 && Number.isFinite(scale))) throw new InvalidArgumentError(`AdamW: rateScale is ${scale}`);
      this.#rates.set(scale, [...(this.#rates.get(scale) ?? []), i]);
    }
  }

  /** Updates all parameters in place. `gradScale` multiplies the gradients first: clipping, accumulation. */
  update(gradients: readonly Tensor[], lr: number, gradScale = 1): void {
    const { beta1, beta2, eps } = this.options;
    this.step++;
    for (const [scale, positions] of this.#rates) {
      const pick = <T>(all: readonly T[]): T[] => positions.map((i) => all[i]!);
      adamW(
        { params: pick(this.parameters).map((p) => p.value), grads: pick(gradients), m: pick(this.m), v: pick(this.v) },
        { lr: lr * scale, beta1, beta2, eps, step: this.step, gradScale, weightDecay: pick(this.#weightDecay) },
      );
    }
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
