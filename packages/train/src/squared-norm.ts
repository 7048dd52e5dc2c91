import { add, mul, scope, sum, type Tensor } from "@mamba-ts/tensor";

/** Sum of the squares of all elements of all gradients, a scalar: its root is the global norm that clipping compares with. */
export function squaredNorm(gradients: readonly Tensor[]): Tensor {
  return scope(() => gradients.map((g) => sum(mul(g, g))).reduce((a, b) => add(a, b)));
}
