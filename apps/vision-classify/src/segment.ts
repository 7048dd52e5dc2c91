/** A segmentation head on the model's feature map: which pixels belong to the thing, and which to the noise laid over the picture? */
import { Linear } from "@mamba-ts/nn";
import {
  add,
  cast,
  compare,
  fromHost,
  mean,
  mul,
  Rng,
  reshape,
  scope,
  softplus,
  sub,
  valueAndGrad,
} from "@mamba-ts/tensor";
import { AdamW } from "@mamba-ts/train";
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

/** A mask in the order of the feature map: [patches, patchSize * patchSize]. */
function byPatches(
  mask: Float32Array,
  width: number,
  size: number,
  [rows, columns]: readonly [number, number],
): Float32Array {
  const out = new Float32Array(rows * columns * size * size);
  let i = 0;
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++)
      for (let y = 0; y < size; y++)
        for (let x = 0; x < size; x++) out[i++] = mask[(r * size + y) * width + c * size + x]!;
  return out;
}

export interface Segmentation {
  /** Intersection over union of the masks on test pictures, and of a guess that everything is the thing. */
  readonly iou: number;
  readonly baseline: number;
}

/** Trains a linear head on a frozen model's features, and measures it on other pictures. */
export async function trainSegmentation(
  model: VisionMamba,
  train: readonly Picture[],
  test: readonly Picture[],
  normalisation: Normalisation,
  { steps, batch, seed }: { readonly steps: number; readonly batch: number; readonly seed: number },
): Promise<Segmentation> {
  const { backend, config } = model;
  const { dModel, patchSize, grid, imageSize, channels } = config;
  const area = patchSize * patchSize;
  using head = new Linear(dModel, area, { bias: true }).initialise(backend, new Rng(seed));
  using optimizer = new AdamW(head, { weightDecay: 0.01 });
  const prepare = (pictures: readonly Picture[], rng: Rng) => {
    const all = pictures.map((p) => noisy(p, rng));
    const n = all.length;
    const pixels = toPixels(
      all.map(({ picture }) => picture),
      normalisation,
    );
    const masks = Float32Array.from(
      all.flatMap(({ mask }) => Array.from(byPatches(mask, imageSize[1], patchSize, grid))),
    );
    return {
      x: fromHost(backend, pixels, [n, channels, ...imageSize], "float32"),
      y: fromHost(backend, masks, [n, grid[0], grid[1], area], "float32"),
      masks,
    };
  };
  for (let step = 0; step < steps; step++) {
    const rng = new Rng(seed + 1, step * (batch + 4));
    const { value, gradients } = scope(() => {
      const { x, y } = prepare(
        Array.from(rng.integers(batch, train.length), (i) => train[i]!),
        rng,
      );
      // The model is not differentiated: only the head's parameters are asked for.
      const { map } = model.forwardFeatures(x);
      return valueAndGrad(
        () => {
          const logits = head.forward(map); // [batch, rows, columns, area]
          // Binary cross-entropy: softplus(z) - y z
          return { loss: mean(sub(softplus(logits), mul(y, logits))) };
        },
        optimizer.parameters.map((p) => p.value),
      );
    });
    optimizer.update(gradients, 1e-2);
    for (const t of [value.loss, ...gradients]) t.dispose();
  }
  const made = scope(() => {
    const { x, y, masks } = prepare(test, new Rng(seed + 2));
    const said = compare("gt", head.forward(model.forwardFeatures(x).map), 0);
    return {
      said: reshape(cast(said, "float32"), [masks.length]),
      both: reshape(add(cast(said, "float32"), y), [masks.length]),
      masks,
    };
  });
  const [both, masks] = [await made.both.data(), made.masks];
  for (const t of [made.said, made.both]) t.dispose();
  const count = (f: (v: number) => boolean, of: ArrayLike<number>): number => Array.from(of).filter(f).length;
  const thing = count((v) => v === 1, masks);
  return {
    iou:
      count((v) => v === 2, both) /
      Math.max(
        1,
        count((v) => v > 0, both),
      ),
    baseline: thing / masks.length,
  };
}
