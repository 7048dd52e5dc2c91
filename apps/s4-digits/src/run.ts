import type { Backend } from "@mamba-ts/backend";
import { isStateParameter, S4Model } from "@mamba-ts/s4";
import { argMax, logSumExp, mean, pick, Rng, scope, sub, type Tensor, tensor } from "@mamba-ts/tensor";
import { AdamW, cosineSchedule, gradientStep } from "@mamba-ts/train";
import { resumeTraining, saveTraining } from "@mamba-ts/train/node";
import { type Digits, sequences } from "./data.js";

export interface RunOptions {
  readonly backend: Backend;
  readonly train: Digits;
  readonly test: Digits;
  readonly dModel: number;
  readonly nLayer: number;
  readonly batch: number;
  /** Updates at most, over which the learning rate falls; without, it falls over `minutes`. */
  readonly steps?: number | undefined;
  /** No update begins after this, time before a resumption included. */
  readonly minutes: number;
  /** Averages squares of four pixels: 196 samples an image instead of 784. */
  readonly halved: boolean;
  /** Test images that a point of the curve looks at; all at the end. */
  readonly probe: number;
  /** Points of the curve. */
  readonly points: number;
  /** A file that the run is saved to at every point. */
  readonly checkpoint?: string | undefined;
  /** Goes on from `checkpoint`: bit for bit with `steps`; without, the learning rate follows the clock. */
  readonly resume?: boolean;
  readonly report: (point: Point) => void;
  readonly signal?: AbortSignal | undefined;
}

/** A point of the curve. */
export interface Point {
  readonly step: number;
  readonly minutes: number;
  /** Of processor time, all threads together. */
  readonly cpuMinutes: number;
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
  const { backend, train, test, batch, steps, halved, probe, report, checkpoint, signal } = options;
  const length = (train.rows * train.columns) / (halved ? 4 : 1);
  const model = S4Model.create(
    {
      dModel: options.dModel,
      nLayer: options.nLayer,
      dState: 64,
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
  const fingerprint = JSON.stringify({ ...model.config, batch, steps, images: train.count, length });
  const points: Point[] = [];
  if (checkpoint !== undefined && options.resume === true)
    points.push(...(JSON.parse(await resumeTraining(checkpoint, { optimizer }, fingerprint)) as Point[]));
  const before = points.at(-1) ?? { minutes: 0, cpuMinutes: 0 };
  const [start, used] = [performance.now(), process.cpuUsage()];
  const minutes = (): number => before.minutes + (performance.now() - start) / 60_000;
  const cpuMinutes = (): number => {
    const { user, system } = process.cpuUsage(used);
    return before.cpuMinutes + (user + system) / 60e6;
  };
  /** Of the run that has been made after an update. */
  const share = (step: number): number => (steps === undefined ? minutes() / options.minutes : step / steps);
  const schedule = cosineSchedule({ peak: 0.01, final: 1e-4, warmup: 50, total: 1000 }); // in thousandths of the run
  let [total, count, reached] = [0, 0, Math.floor(share(optimizer.step) * options.points)];
  for (let step = optimizer.step + 1; ; step++) {
    signal?.throwIfAborted();
    const indices = batchOf(train.count, batch, step - 1);
    const loss = (): Tensor => {
      const logits = forward(model, train, indices, halved, true);
      const targets = tensor(
        backend,
        Int32Array.from(indices, (i) => train.labels[i]!),
      );
      return mean(sub(logSumExp(logits, 1), pick(logits, targets)));
    };
    total += (await gradientStep(optimizer, loss, { learningRate: schedule(1000 * share(step - 1)) })).loss;
    count++;
    const isLast = step === steps || minutes() >= options.minutes;
    const mark = Math.floor(share(step) * options.points);
    if (!isLast && mark === reached) continue;
    reached = mark;
    const images = isLast ? test.count : Math.min(probe, test.count);
    const right = await accuracy(model, test, images, halved);
    const point = { step, loss: total / count, accuracy: right, images, minutes: minutes(), cpuMinutes: cpuMinutes() };
    points.push(point);
    report(point);
    if (checkpoint !== undefined) await saveTraining(checkpoint, { optimizer }, fingerprint, JSON.stringify(points));
    [total, count] = [0, 0];
    if (isLast) break;
  }
  return { model, points };
}

/** The images of one update: every epoch sees each once, in an order of its own that depends on nothing but its number. */
export function batchOf(images: number, batch: number, update: number): Int32Array {
  const perEpoch = Math.max(1, Math.floor(images / batch));
  const order = epochOrder(images, Math.floor(update / perEpoch));
  const from = (update % perEpoch) * batch;
  return order.subarray(from, from + batch);
}

let latest: { readonly images: number; readonly epoch: number; readonly order: Int32Array } | undefined;

function epochOrder(images: number, epoch: number): Int32Array {
  if (latest?.images !== images || latest.epoch !== epoch) {
    const keys = new Rng(epoch + 1).uniform(images);
    const order = Int32Array.from(keys, (_, i) => i).sort((a, b) => keys[a]! - keys[b]!);
    latest = { images, epoch, order };
  }
  return latest.order;
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
