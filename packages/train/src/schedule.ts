import { InvalidArgumentError } from "@mamba-ts/backend";

/** Learning rate at a step, counted from 0. */
export type Schedule = (step: number) => number;

export interface CosineOptions {
  /** Learning rate after warm-up. */
  readonly peak: number;
  /** Learning rate at the end; 1e-5 in the Mamba paper's recipe. */
  readonly final?: number;
  /** Steps of linear warm-up from 0. */
  readonly warmup: number;
  /** Steps in all; from there on the rate stays at `final`. */
  readonly total: number;
}

/** Linear warm-up, then half a cosine down to `final` (arXiv:1608.03983; the recipe of arXiv:2312.00752, appendix E.2). */
export function cosineSchedule({ peak, final = 1e-5, warmup, total }: CosineOptions): Schedule {
  if (!(peak > 0 && final >= 0 && warmup >= 0 && total > 0))
    throw new InvalidArgumentError(
      `cosineSchedule: peak ${peak}, final ${final}, warmup ${warmup}, total ${total} are no schedule`,
    );
  return (step) => {
    if (step < warmup) return (peak * (step + 1)) / warmup;
    const progress = Math.min(1, (step - warmup) / Math.max(1, total - warmup));
    return final + 0.5 * (peak - final) * (1 + Math.cos(Math.PI * progress));
  };
}

/** The same learning rate in every step. */
export const constantSchedule =
  (rate: number): Schedule =>
  () =>
    rate;
