import { type FloatDType, InvalidArgumentError, NonFiniteError } from "@mamba-ts/backend";
import type { Recompute } from "@mamba-ts/nn";
import { add, scope, type Tensor, valueAndGrad } from "@mamba-ts/tensor";
import type { Batch, BatchSource } from "./data.js";
import { languageModelLoss } from "./loss.js";
import type { CarriedState, LanguageModel } from "./model.js";
import { AdamW, type AdamWOptions } from "./optimizer.js";
import type { Schedule } from "./schedule.js";
import { squaredNorm } from "./squared-norm.js";

export interface TrainerOptions {
  readonly data: BatchSource;
  readonly schedule: Schedule;
  readonly optimizer?: AdamWOptions;
  /** Largest global gradient norm; gradients above are scaled down. 1 by default. */
  readonly clip?: number;
  /** Batches whose gradients are averaged for one update. 1 by default. */
  readonly accumulate?: number;
  /** Start each batch from the state the last one ended in (truncated backpropagation); needs contiguous data. */
  readonly carryState?: boolean;
  /** What is computed again for the gradient instead of kept. */
  readonly recompute?: Recompute;
  /**
   * Of the activations: bf16 for mixed precision. Parameters, their gradients, the optimizer, the residual stream, the state and the loss
   * stay float32, so that the loss needs no scaling. float32 by default.
   */
  readonly dtype?: FloatDType;
}

export interface StepReport {
  /** Updates made, this one included. */
  readonly step: number;
  /** Mean cross-entropy, nats per token, before the update; with the model's penalty where it has one (a router's). */
  readonly loss: number;
  readonly bitsPerByte: number;
  readonly learningRate: number;
  /** Global norm before clipping. */
  readonly gradientNorm: number;
  readonly tokens: number;
  readonly seconds: number;
}

/** Trains a language model, one update at a time. All that the next update depends on can be saved: see `saveTraining` of "./node". */
export class Trainer<S extends CarriedState> implements Disposable {
  readonly optimizer: AdamW;
  /** The state to continue from, with `carryState`. */
  carried: S | undefined;
  readonly options: TrainerOptions & { readonly clip: number; readonly accumulate: number };

  constructor(
    readonly model: LanguageModel<S>,
    options: TrainerOptions,
  ) {
    const { clip = 1, accumulate = 1 } = options;
    if (!(clip > 0)) throw new InvalidArgumentError(`Trainer: clip is ${clip}, not positive`);
    if (!Number.isInteger(accumulate) || accumulate < 1)
      throw new InvalidArgumentError(`Trainer: accumulate is ${accumulate}, not a positive integer`);
    if (options.carryState === true && !options.data.isContiguous)
      throw new InvalidArgumentError("Trainer: carryState needs contiguous data", { hint: "use contiguousWindows" });
    this.options = { ...options, clip, accumulate };
    this.optimizer = new AdamW(model, options.optimizer);
  }

  /** Updates made so far. */
  get step(): number {
    return this.optimizer.step;
  }

  /**
   * One update. Nothing has changed if it rejects: a loss or gradient that is not finite throws NonFiniteError before the weights are touched.
   */
  async update(signal?: AbortSignal): Promise<StepReport> {
    signal?.throwIfAborted();
    const { data, schedule, clip, accumulate } = this.options;
    const start = performance.now();
    let gradients: Tensor[] | undefined;
    const losses: Tensor[] = [];
    let tokens = 0;
    let carried = this.carried;
    try {
      for (let k = 0; k < accumulate; k++) {
        const batch = await data.batch(this.step * accumulate + k);
        const result = this.#gradients(batch, carried, gradients);
        for (const g of gradients ?? []) g.dispose();
        if (carried !== this.carried) carried?.[Symbol.dispose]();
        ({ gradients, carried } = result);
        losses.push(result.loss);
        tokens += batch.tokens.reduce((n, row) => n + row.length - 1, 0);
      }
      const norm = await this.#norm(gradients!, accumulate);
      const loss = (await Promise.all(losses.map((l) => l.item()))).reduce((a, b) => a + b, 0) / accumulate;
      if (!Number.isFinite(loss) || !Number.isFinite(norm))
        throw new NonFiniteError(`training step ${this.step + 1}: loss ${loss}, gradient norm ${norm}`, {
          hint: "the weights are as before this step; lower the learning rate, or resume from an earlier checkpoint",
        });
      // Up to here nothing has changed, so stopping loses nothing.
      signal?.throwIfAborted();
      const learningRate = schedule(this.step);
      this.optimizer.update(gradients!, learningRate, Math.min(1, clip / (norm + 1e-6)) / accumulate);
      if (this.carried !== carried) this.carried?.[Symbol.dispose]();
      this.carried = carried;
      carried = undefined;
      return {
        step: this.step,
        loss,
        bitsPerByte: loss / Math.LN2 / data.bytesPerToken,
        learningRate,
        gradientNorm: norm,
        tokens,
        seconds: (performance.now() - start) / 1000,
      };
    } finally {
      for (const t of [...losses, ...(gradients ?? [])]) t.dispose();
      if (carried !== undefined && carried !== this.carried) carried[Symbol.dispose]();
    }
  }

  #gradients(
    batch: Batch,
    state: S | undefined,
    sum: readonly Tensor[] | undefined,
  ): { loss: Tensor; gradients: Tensor[]; carried: S | undefined } {
    const { carryState = false, recompute = false, dtype } = this.options;
    return scope(() => {
      const { value, gradients } = valueAndGrad(
        () => {
          const { loss, state: after } = languageModelLoss(this.model, batch, {
            state: carryState ? state : undefined,
            recompute,
            dtype,
          });
          return carryState ? { loss, after } : { loss, after: undefined };
        },
        this.optimizer.parameters.map((p) => p.value),
      );
      const total = sum === undefined ? [...gradients] : gradients.map((g, i) => add(sum[i]!, g));
      return { loss: value.loss, gradients: total, carried: value.after };
    });
  }

  async #norm(gradients: readonly Tensor[], accumulate: number): Promise<number> {
    const squares = squaredNorm(gradients);
    try {
      return Math.sqrt(await squares.item()) / accumulate;
    } finally {
      squares.dispose();
    }
  }

  dispose(): void {
    this.optimizer.dispose();
    this.carried?.[Symbol.dispose]();
    this.carried = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
