import type { Backend } from "@mamba-ts/backend";
import { isStateParameter, S4Model } from "@mamba-ts/s4";
import { argMax, logSumExp, mean, pick, Rng, scope, sub, type Tensor, tensor } from "@mamba-ts/tensor";
import { AdamW, cosineSchedule, gradientStep } from "@mamba-ts/train";
import { type Digits, sequences } from "./data.js";

export interface RunOptions {
  readonly backend: Backend;
  readonly train: Digits;
  readonly test: Digits;
  readonly dModel: number;
  readonly nLayer: number;
  readonly batch: number;
  /** Updates at most; the learning rate falls over them. */
  readonly steps: number;
  /** No update begins after this. */
  readonly minutes: number;
  /** Averages squares of four pixels: 196 samples an image instead of 784. */
  readonly halved: boolean;
  /** Test images that a point of the curve looks at; all at the end. */
  readonly probe: number;
  readonly report: (point: Point) => void;
}

/** A point of the curve. */
export interface Point {
  readonly step: number;
  readonly minutes: number;
  /** Mean training loss since the last point, nats. */
  readonly loss: number;
  /** Share of the test images read rightly. */
  readonly accuracy: number;
  readonly images: number;
}

/** Trains a classifier of pixel sequences, and follows its accuracy on images it never trains on. */
export async function trainDigits(
  options: RunOptions,
): Promise<{ readonly model: S4Model; readonly points: readonly Point[] }> {
  const { backend, train, test, batch, steps, halved, probe, report } = options;
  const length = (train.rows * train.columns) / (halved ? 4 : 1);
  const model = S4Model.create(
    {
      dModel: options.dModel,
      nLayer: options.nLayer,
      dState: 32,
      init: "lin",
      dInput: 1,
      prenorm: true,
      // Memories from a few pixels to a whole image.
      dtMin: 0.5 / length,
      dtMax: 0.1,
      head: { kind: "classification", classes: 10 },
    },
    { backend },
  );
  using optimizer = new AdamW(model, {
    weightDecay: 0.01,
    groups: [{ match: isStateParameter, rateScale: 0.1, weightDecay: 0 }],
  });
  const schedule = cosineSchedule({ peak: 0.01, final: 1e-4, warmup: Math.ceil(steps / 20), total: steps });
  const rng = new Rng(1);
  const points: Point[] = [];
  const every = Math.max(1, Math.floor(steps / 12));
  const start = performance.now();
  const minutes = (): number => (performance.now() - start) / 60_000;
  let [total, count] = [0, 0];
  for (let step = 1; step <= steps; step++) {
    const indices = rng.integers(batch, train.count);
    const loss = (): Tensor => {
      const logits = forward(model, train, indices, halved, true);
      const targets = tensor(
        backend,
        Int32Array.from(indices, (i) => train.labels[i]!),
      );
      return mean(sub(logSumExp(logits, 1), pick(logits, targets)));
    };
    total += (await gradientStep(optimizer, loss, { learningRate: schedule(step - 1) })).loss;
    count++;
    const isLast = step === steps || minutes() >= options.minutes;
    if (!isLast && step % every !== 0) continue;
    const images = isLast ? test.count : Math.min(probe, test.count);
    const point = {
      step,
      loss: total / count,
      accuracy: await accuracy(model, test, images, halved),
      images,
      minutes: minutes(),
    };
    points.push(point);
    report(point);
    [total, count] = [0, 0];
    if (isLast) break;
  }
  return { model, points };
}

/** Share of the first `count` images that the model reads rightly. */
export async function accuracy(model: S4Model, digits: Digits, count: number, halved: boolean): Promise<number> {
  let right = 0;
  const batch = 64;
  for (let from = 0; from < count; from += batch) {
    const indices = Array.from({ length: Math.min(batch, count - from) }, (_, i) => from + i);
    using best = scope(() => argMax(forward(model, digits, indices, halved, false), 1));
    (await best.data()).forEach((digit, i) => {
      if (digit === digits.labels[from + i]) right++;
    });
  }
  return right / count;
}

/** Logits [images, 10]. */
function forward(model: S4Model, digits: Digits, indices: ArrayLike<number>, halved: boolean, train: boolean): Tensor {
  const values = sequences(digits, indices, halved);
  const x = tensor(model.backend, values, [indices.length, values.length / indices.length, 1]);
  return model.forward(x, { train }).output;
}
