import { NonFiniteError } from "@mamba-ts/backend";
import { scope, type Tensor, valueAndGrad } from "@mamba-ts/tensor";
import type { AdamW } from "./optimizer.js";
import { squaredNorm } from "./squared-norm.js";

export interface GradientStepOptions {
  readonly learningRate: number;
  /** Largest global gradient norm; gradients above are scaled down. 1 by default. */
  readonly clip?: number;
}

/**
 * One update of any model by any loss: `Trainer` does the same for language models, with data, schedule and resuming.
 * @param loss - the scalar to make smaller, of the parameters that the optimizer has
 * @returns the loss and the gradient norm before the update
 * Rejects with NonFiniteError, the weights untouched, if either is not finite.
 */
export async function gradientStep(
  optimizer: AdamW,
  loss: () => Tensor,
  { learningRate, clip = 1 }: GradientStepOptions,
): Promise<{ readonly loss: number; readonly gradientNorm: number }> {
  const { value, gradients, squares } = scope(() => {
    const wrt = optimizer.parameters.map((p) => p.value);
    const result = valueAndGrad(() => ({ loss: loss() }), wrt);
    return { ...result, squares: squaredNorm(result.gradients) };
  });
  try {
    const [lossNow, norm] = [await value.loss.item(), Math.sqrt(await squares.item())];
    if (!Number.isFinite(lossNow) || !Number.isFinite(norm))
      throw new NonFiniteError(`training step ${optimizer.step + 1}: loss ${lossNow}, gradient norm ${norm}`, {
        hint: "the weights are as before this step; lower the learning rate, and look for NaN in the data",
      });
    optimizer.update(gradients, learningRate, Math.min(1, clip / (norm + 1e-6)));
    return { loss: lossNow, gradientNorm: norm };
  } finally {
    for (const t of [value.loss, squares, ...gradients]) t.dispose();
  }
}
