import type { Backend } from "@mamba-ts/backend";
import { isStateParameter, S4Model } from "@mamba-ts/s4";
import { mean, mul, type Rng, scope, sub, type Tensor, tensor } from "@mamba-ts/tensor";
import { AdamW, cosineSchedule, gradientStep } from "@mamba-ts/train";

/** One example: a sequence with the step before each of its samples, and what is to be said of it. */
export interface Example {
  /** [length, features] */
  readonly input: Float64Array;
  /** [length], in units of the typical step; absent where samples are regular. */
  readonly deltas?: Float64Array | undefined;
  /** [outputs] */
  readonly target: Float64Array;
}

export interface Recipe {
  readonly backend: Backend;
  readonly dModel: number;
  readonly dState: number;
  readonly steps: number;
  readonly batch: number;
  readonly rate: number;
  readonly onStep?: (step: number, loss: number) => void;
}

/** An S4D with zero-order hold, whose last position gives all outputs. */
export function makeForecaster({ backend, dModel, dState }: Recipe, features: number, outputs: number): S4Model {
  return S4Model.create(
    {
      dModel,
      nLayer: 2,
      dState,
      init: "lin",
      dInput: features,
      prenorm: true,
      dropout: 0.05,
      dtMin: 0.003,
      head: { kind: "forecast", outputs, horizon: 1 },
    },
    { backend, seed: 1 },
  );
}

/** Trains on random examples of `count` by the mean square error. */
export async function trainForecaster(
  model: S4Model,
  example: (i: number) => Example,
  count: number,
  rng: Rng,
  { steps, batch, rate, onStep }: Recipe,
): Promise<void> {
  using optimizer = new AdamW(model, {
    weightDecay: 0.01,
    groups: [{ match: isStateParameter, rateScale: Math.min(1, 0.001 / rate), weightDecay: 0 }],
  });
  const schedule = cosineSchedule({ peak: rate, final: rate / 100, warmup: Math.ceil(steps / 20), total: steps });
  for (let step = 0; step < steps; step++) {
    const examples = Array.from(rng.integers(batch, count), example);
    const loss = (): Tensor => {
      const error = sub(forward(model, examples, rng), targetsOf(model, examples));
      return mean(mul(error, error));
    };
    const { loss: now } = await gradientStep(optimizer, loss, { learningRate: schedule(step) });
    onStep?.(step + 1, now);
  }
}

/** Predictions for examples, in batches: [outputs] each. */
export async function predict(model: S4Model, examples: readonly Example[], batch = 64): Promise<Float64Array[]> {
  const out: Float64Array[] = [];
  for (let start = 0; start < examples.length; start += batch) {
    const part = examples.slice(start, start + batch);
    using y = scope(() => forward(model, part, undefined));
    const values = await y.data();
    const width = values.length / part.length;
    for (let i = 0; i < part.length; i++) out.push(Float64Array.from(values.slice(i * width, (i + 1) * width)));
  }
  return out;
}

/** [batch, 1, outputs] */
function forward(model: S4Model, examples: readonly Example[], rng: Rng | undefined): Tensor {
  const { backend } = model;
  const [batch, features] = [examples.length, model.config.dInput!];
  const length = examples[0]!.input.length / features;
  const flat = (get: (e: Example) => Float64Array): Float32Array =>
    Float32Array.from(examples.flatMap((e) => [...get(e)]));
  const x = tensor(
    backend,
    flat((e) => e.input),
    [batch, length, features],
  );
  const isTimed = examples[0]!.deltas !== undefined;
  const deltas = isTimed
    ? tensor(
        backend,
        flat((e) => e.deltas!),
        [batch, length],
      )
    : undefined;
  return model.forward(x, { deltas, train: rng !== undefined, rng }).output;
}

function targetsOf(model: S4Model, examples: readonly Example[]): Tensor {
  const values = Float32Array.from(examples.flatMap((e) => [...e.target]));
  return tensor(model.backend, values, [examples.length, 1, examples[0]!.target.length]);
}
