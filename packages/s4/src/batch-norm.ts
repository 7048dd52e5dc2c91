import { constant, Module, Parameter } from "@mamba-ts/nn";
import { add, keep, mean, mul, reshape, rsqrt, scope, sub, type Tensor, withoutRecording } from "@mamba-ts/tensor";

const [EPS, MOMENTUM] = [1e-5, 0.1];

/**
 * Batch norm over all positions of all sequences (arXiv:1502.03167), PyTorch's defaults and names. In training it uses the batch's
 * statistics and moves the running ones, which it uses otherwise.
 */
export class BatchNorm extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;
  /** No gradient reaches the running statistics, so that an optimizer leaves them alone. */
  readonly runningMean: Parameter;
  readonly runningVar: Parameter;

  constructor(width: number) {
    super();
    const options = { decay: false, keepFloat32: true };
    this.weight = new Parameter([width], { init: constant(1), ...options });
    this.bias = new Parameter([width], { init: constant(0), ...options });
    this.runningMean = new Parameter([width], { init: constant(0), ...options });
    this.runningVar = new Parameter([width], { init: constant(1), ...options });
  }

  /** @param x - [batch, length, width]  @returns the same shape */
  forward(x: Tensor, train: boolean): Tensor {
    const flat = reshape(x, [-1, x.shape.at(-1)!]);
    const centre = train ? mean(flat, 0) : this.runningMean.value;
    const apart = sub(flat, centre);
    const variance = train ? mean(mul(apart, apart), 0) : this.runningVar.value;
    if (train) this.#follow(centre, variance, flat.shape[0]!);
    const scaled = mul(mul(apart, rsqrt(add(variance, EPS))), this.weight.value);
    return reshape(add(scaled, this.bias.value), x.shape);
  }

  #follow(centre: Tensor, variance: Tensor, count: number): void {
    const unbiased = count / Math.max(1, count - 1);
    const moved = (old: Tensor, now: Tensor, by: number): Tensor =>
      withoutRecording(() => scope(() => add(mul(old, 1 - MOMENTUM), mul(now, by * MOMENTUM))));
    this.runningMean.value = keep(moved(this.runningMean.value, centre, 1));
    this.runningVar.value = keep(moved(this.runningVar.value, variance, unbiased));
  }
}
