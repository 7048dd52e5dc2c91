import type { Backend } from "@mamba-ts/backend";
import { fromHost, Rng, scope, valueAndGrad } from "@mamba-ts/tensor";
import { AdamW, cosineSchedule } from "@mamba-ts/train";
import { classificationLoss, VisionMamba, type VisionMambaConfig } from "@mamba-ts/vision-mamba";
import { augment, type Normalisation, type Picture, toPixels } from "@mamba-ts/vision-mamba/images";
import type { Examples } from "./data.js";

export interface Settings {
  readonly dModel: number;
  readonly nLayer: number;
  readonly patchSize: number;
  readonly steps: number;
  readonly batch: number;
  readonly lr: number;
  readonly dropPath: number;
  /** Pixels by which training pictures are moved, and whether they are mirrored. */
  readonly shift: number;
  readonly flip: boolean;
  readonly seed: number;
}

/** Mean and deviation of the training pictures themselves. */
export function normalisationOf(pictures: readonly Picture[]): Normalisation {
  const { channels } = pictures[0]!;
  const stats = Array.from({ length: channels }, (_, c) => {
    let [n, sum, squares] = [0, 0, 0];
    for (const { data, width, height } of pictures.slice(0, 1000))
      for (const v of data.subarray(c * width * height, (c + 1) * width * height)) {
        n++;
        sum += v;
        squares += v * v;
      }
    return { mean: sum / n, std: Math.sqrt(Math.max(1e-6, squares / n - (sum / n) ** 2)) };
  });
  return { mean: stats.map((s) => s.mean), std: stats.map((s) => s.std) };
}

export function configOf(settings: Settings, { width, channels }: Picture, nClasses: number): VisionMambaConfig {
  const { dModel, nLayer, patchSize, dropPath } = settings;
  return { imageSize: width, patchSize, channels, nClasses, dModel, nLayer, dState: 8, dropPath };
}

/** Trains a classifier; the model is the caller's. */
export async function trainClassifier(
  settings: Settings,
  { pictures, labels }: Examples,
  normalisation: Normalisation,
  nClasses: number,
  backend: Backend,
  note: (line: string) => void,
): Promise<{ readonly model: VisionMamba; readonly losses: readonly number[] }> {
  const { steps, batch, lr, shift, flip, seed } = settings;
  const model = VisionMamba.create(configOf(settings, pictures[0]!, nClasses), { backend, seed });
  using optimizer = new AdamW(model, { weightDecay: 0.05, beta2: 0.999 });
  const schedule = cosineSchedule({ peak: lr, warmup: Math.max(1, steps >> 4), total: steps });
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    const rng = new Rng(seed, step * (3 * batch + 8));
    const places = Array.from(rng.integers(batch, pictures.length));
    const pixels = toPixels(
      places.map((i) => augment(pictures[i]!, rng, { shift, flip })),
      normalisation,
    );
    const { value, gradients } = scope(() => {
      const [h, w, c] = [pictures[0]!.height, pictures[0]!.width, pictures[0]!.channels];
      const x = fromHost(backend, pixels, [batch, c, h, w], "float32");
      const y = fromHost(
        backend,
        Int32Array.from(places, (i) => labels[i]!),
        [batch],
        "int32",
      );
      return valueAndGrad(
        () => ({ loss: classificationLoss(model.forward(x, { train: true, rng }).logits, y) }),
        optimizer.parameters.map((p) => p.value),
      );
    });
    optimizer.update(gradients, schedule(step));
    losses.push(await value.loss.item());
    for (const t of [value.loss, ...gradients]) t.dispose();
    if ((step + 1) % 20 === 0 || step + 1 === steps)
      note(`step ${step + 1}/${steps}: loss ${losses.at(-1)!.toFixed(3)}`);
  }
  return { model, losses };
}

/** What the model says of every picture. */
export async function classify(
  model: VisionMamba,
  pictures: readonly Picture[],
  normalisation: Normalisation,
  batch = 100,
): Promise<Int32Array> {
  const said = new Int32Array(pictures.length);
  for (let at = 0; at < pictures.length; at += batch) {
    const part = pictures.slice(at, at + batch);
    const { width, height, channels } = part[0]!;
    const logits = scope(
      () =>
        model.forward(
          fromHost(model.backend, toPixels(part, normalisation), [part.length, channels, height, width], "float32"),
        ).logits,
    );
    const scores = await logits.data();
    const classes = logits.shape[1]!;
    logits.dispose();
    for (let i = 0; i < part.length; i++) {
      const row = scores.subarray(i * classes, (i + 1) * classes);
      said[at + i] = row.indexOf(Math.max(...row));
    }
  }
  return said;
}

/** counts[is][said] */
export function confusion(labels: Int32Array, said: Int32Array, classes: number): number[][] {
  const counts = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  for (const [i, label] of labels.entries()) counts[label]![said[i]!]!++;
  return counts;
}
