import type { Backend } from "@mamba-ts/backend";
import { isStateParameter, S4Model } from "@mamba-ts/s4";
import { mean, mul, Rng, scope, sub, type Tensor, tensor, zeros } from "@mamba-ts/tensor";
import { AdamW, cosineSchedule, gradientStep } from "@mamba-ts/train";
import { squaredError } from "./linear.js";

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
  /** Models that are trained from different random weights, whose predictions are averaged. */
  readonly models: number;
  readonly onStep?: (step: number, loss: number) => void;
}

export interface Task {
  readonly features: number;
  readonly outputs: number;
  /** Training example i of `count`. */
  readonly example: (i: number) => Example;
  readonly count: number;
  /** What decides when to stop. */
  readonly validation: readonly Example[];
  /** What S4D is to improve on: it learns the difference, and begins with none. */
  readonly base: (e: Example) => Float64Array;
}

/** How often training looks at the validation examples. */
const LOOKS = 20;

/**
 * Trains S4D on what a simple forecast leaves over, keeps the weights that did best on validation examples (at the start they are the simple
 * forecast itself), and predicts examples by the sum of both.
 */
export async function forecast(task: Task, recipe: Recipe, tests: readonly Example[]): Promise<Float64Array[]> {
  const left = (e: Example): Example => ({ ...e, target: difference(e.target, task.base(e)) });
  const sums = tests.map(task.base);
  for (let seed = 1; seed <= recipe.models; seed++) {
    using model = makeForecaster(recipe, task.features, task.outputs, seed);
    const validation = task.validation.map(left);
    await trainForecaster(model, (i) => left(task.example(i)), task.count, validation, new Rng(seed + 100), recipe);
    for (const [i, row] of (await predict(model, tests)).entries())
      for (const [k, y] of row.entries()) sums[i]![k]! += y / recipe.models;
  }
  return sums;
}

function difference(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((v, k) => v - b[k]!);
}

/** An S4D with zero-order hold, whose last position gives all outputs: zeros at first. */
function makeForecaster({ backend, dModel, dState }: Recipe, features: number, outputs: number, seed: number): S4Model {
  const model = S4Model.create(
    {
      dModel,
      nLayer: 2,
      dState,
      init: "lin",
      dInput: features,
      prenorm: true,
      dropout: 0.1,
      dtMin: 0.003,
      head: { kind: "forecast", outputs, horizon: 1 },
    },
    { backend, seed },
  );
  using none = zeros(backend, model.decoder.weight.value.shape);
  model.decoder.weight.value.assign(none);
  return model;
}

/** Trains on random examples of `count` by the mean square error, and leaves the weights that were best on `validation`. */
async function trainForecaster(
  model: S4Model,
  example: (i: number) => Example,
  count: number,
  validation: readonly Example[],
  rng: Rng,
  { steps, batch, rate, onStep }: Recipe,
): Promise<void> {
  using optimizer = new AdamW(model, {
    weightDecay: 0.05,
    groups: [{ match: isStateParameter, rateScale: Math.min(1, 0.001 / rate), weightDecay: 0 }],
  });
  const schedule = cosineSchedule({ peak: rate, final: rate / 100, warmup: Math.ceil(steps / 20), total: steps });
  const every = Math.ceil(steps / LOOKS);
  const look = async (): Promise<number> => {
    const rows = await predict(model, validation);
    return squaredError(validation, (_, i) => rows[i]!);
  };
  let [best, kept] = [await look(), await weightsOf(model)];
  for (let step = 1; step <= steps; step++) {
    const examples = Array.from(rng.integers(batch, count), example);
    const loss = (): Tensor => {
      const error = sub(forward(model, examples, rng), targetsOf(model, examples));
      return mean(mul(error, error));
    };
    const { loss: now } = await gradientStep(optimizer, loss, { learningRate: schedule(step - 1) });
    onStep?.(step, now);
    if (step % every !== 0 && step !== steps) continue;
    const error = await look();
    if (error < best) [best, kept] = [error, await weightsOf(model)];
  }
  for (const [i, [, { value }]] of [...model.namedParameters()].entries()) {
    using weights = tensor(model.backend, kept[i]!, value.shape);
    value.assign(weights);
  }
}

async function weightsOf(model: S4Model): Promise<Float32Array[]> {
  const all = [...model.namedParameters()].map(async ([, { value }]) => Float32Array.from(await value.data()));
  return Promise.all(all);
}

/** Predictions for examples, in batches: [outputs] each. */
async function predict(model: S4Model, examples: readonly Example[], batch = 64): Promise<Float64Array[]> {
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
