/**
 * A segmentation head on the model's feature map: which pixels belong to the thing, and which to the noise laid over the picture? The model
 * learns with it: what it needed for a class says little about single pixels.
 */
import { Linear } from "@mamba-ts/nn";
import { cast, compare, fromHost, mean, mul, Rng, scope, softplus, sub, valueAndGrad } from "@mamba-ts/tensor";
import { AdamW, cosineSchedule } from "@mamba-ts/train";
import type { VisionMamba } from "@mamba-ts/vision-mamba";
import { type Normalisation, type Picture, toPixels } from "@mamba-ts/vision-mamba/images";

/** A picture under noise, and the mask of what was brighter than a half. */
export function noisy(picture: Picture, rng: Rng): { readonly picture: Picture; readonly mask: Float32Array } {
  const { width, height, channels, data } = picture;
  const noise = rng.uniform(data.length);
  const mask = Float32Array.from({ length: width * height }, (_, i) => {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += data[c * width * height + i]! / channels;
    return sum > 0.5 ? 1 : 0;
  });
  return { picture: { ...picture, data: data.map((v, i) => Math.min(1, v + 0.6 * noise[i]!)) }, mask };
}

/** Where the pixels of a mask stand in the order of the feature map: [patches, patchSize * patchSize]. */
function patchOrder(width: number, size: number, [rows, columns]: readonly [number, number]): Int32Array {
  const out = new Int32Array(rows * columns * size * size);
  let i = 0;
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++)
      for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) out[i++] = (r * size + y) * width + c * size + x;
  return out;
}

export interface Segmentation {
  /** Intersection over union of the masks on test pictures, and of a guess that everything is the thing. */
  readonly iou: number;
  readonly baseline: number;
  /** The test pictures as they were shown, with true and predicted masks, row by row. */
  readonly shown: readonly { readonly picture: Picture; readonly mask: Float32Array; readonly said: Float32Array }[];
}

/** Trains a linear head and the model below it, and measures them on other pictures. */
export async function trainSegmentation(
  model: VisionMamba,
  train: readonly Picture[],
  test: readonly Picture[],
  normalisation: Normalisation,
  {
    steps,
    batch,
    lr,
    seed,
  }: { readonly steps: number; readonly batch: number; readonly lr: number; readonly seed: number },
): Promise<Segmentation> {
  const { backend, config } = model;
  const { dModel, patchSize, grid, imageSize, channels } = config;
  const area = patchSize * patchSize;
  const order = patchOrder(imageSize[1], patchSize, grid);
  using head = new Linear(dModel, area, { bias: true }).initialise(backend, new Rng(seed));
  using below = new AdamW(model, { weightDecay: 0.01 });
  using above = new AdamW(head, { weightDecay: 0.01 });
  const prepare = (pictures: readonly Picture[], rng: Rng) => {
    const all = pictures.map((p) => noisy(p, rng));
    const pixels = toPixels(
      all.map(({ picture }) => picture),
      normalisation,
    );
    const masks = all.flatMap(({ mask }) => Array.from(order, (at) => mask[at]!));
    return {
      all,
      x: fromHost(backend, pixels, [all.length, channels, ...imageSize], "float32"),
      y: fromHost(backend, masks, [all.length, grid[0], grid[1], area], "float32"),
    };
  };
  const schedule = cosineSchedule({ peak: lr, warmup: Math.max(1, steps >> 4), total: steps });
  for (let step = 0; step < steps; step++) {
    const rng = new Rng(seed + 1, step * (batch * imageSize[0] * imageSize[1] * channels + 4096));
    const { value, gradients } = scope(() => {
      const { x, y } = prepare(
        Array.from(rng.integers(batch, train.length), (i) => train[i]!),
        rng,
      );
      return valueAndGrad(
        () => {
          const logits = head.forward(model.forwardFeatures(x).map); // [batch, rows, columns, area]
          // Binary cross-entropy: softplus(z) - y z
          return { loss: mean(sub(softplus(logits), mul(y, logits))) };
        },
        [...below.parameters, ...above.parameters].map((p) => p.value),
      );
    });
    const own = below.parameters.length;
    below.update(gradients.slice(0, own), schedule(step));
    above.update(gradients.slice(own), schedule(step));
    for (const t of [value.loss, ...gradients]) t.dispose();
  }
  const { all, predicted } = scope(() => {
    const { all, x } = prepare(test, new Rng(seed + 2));
    const logits = head.forward(model.forwardFeatures(x).map);
    return { all, predicted: cast(compare("gt", logits, 0), "float32") };
  });
  const flat = await predicted.data();
  predicted.dispose();
  const shown = all.map(({ picture, mask }, i) => {
    const said = new Float32Array(mask.length);
    order.forEach((at, k) => {
      said[at] = flat[i * order.length + k]!;
    });
    return { picture, mask, said };
  });
  const count = (f: (mask: number, said: number) => boolean): number =>
    shown.reduce((n, { mask, said }) => n + mask.filter((v, i) => f(v, said[i]!)).length, 0);
  const either = count((mask, said) => mask + said > 0);
  return {
    iou: count((mask, said) => mask + said === 2) / Math.max(1, either),
    baseline: count((mask) => mask === 1) / count(() => true),
    shown,
  };
}
