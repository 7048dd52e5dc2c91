import type { Shape } from "@mamba-ts/backend";
import { deltaBias, s4dReal } from "@mamba-ts/ssm";
import { type Rng, sizeOf } from "@mamba-ts/tensor";

/** First values of a parameter, row-major. */
export type Initialiser = (rng: Rng, shape: Shape) => Float64Array;

/** The same value everywhere. */
export const constant =
  (value: number): Initialiser =>
  (_, shape) =>
    new Float64Array(sizeOf(shape)).fill(value);

/** Uniform in (-bound, bound). */
export const uniform =
  (bound: number): Initialiser =>
  (rng, shape) =>
    rng.uniform(sizeOf(shape)).map((u) => bound * (2 * u - 1));

/** Normal with mean 0. */
export const normal =
  (std: number): Initialiser =>
  (rng, shape) =>
    rng.normal(sizeOf(shape)).map((z) => std * z);

/** Normal, redrawn beyond two standard deviations. */
export const truncatedNormal =
  (std: number): Initialiser =>
  (rng, shape) => {
    const values = rng.normal(sizeOf(shape));
    for (let i = 0; i < values.length; i++) while (Math.abs(values[i]!) > 2) values[i] = rng.normal(1)[0]!;
    return values.map((z) => std * z);
  };

/** PyTorch's default for linear layers and convolutions: uniform within 1 / sqrt(fanIn) (kaiming_uniform with a = sqrt(5)). */
export const fanInUniform = (fanIn: number, scale = 1): Initialiser => uniform(scale / Math.sqrt(fanIn));

/** S4D-Real (arXiv:2206.11893): A_log[c, n] = log(n + 1). Shape [dInner, dState]. */
export const s4dRealInit: Initialiser = (_, shape) => s4dReal(shape[0]!, shape[1]!);

export interface DeltaRange {
  readonly dtMin: number;
  readonly dtMax: number;
  readonly dtInitFloor: number;
}

/** Biases that softplus turns into step sizes spread log-uniformly over [dtMin, dtMax] (arXiv:2312.00752, section 3.6). */
export const deltaBiasInit =
  (range: DeltaRange): Initialiser =>
  (rng, shape) =>
    deltaBias(rng.uniform(sizeOf(shape)), range);
