import { type Backend, DataError } from "@mamba-ts/backend";
import { isInteger, readTensor } from "@mamba-ts/checkpoint";
import { openSafetensorsFile } from "@mamba-ts/checkpoint/node";
import type { Tensor } from "@mamba-ts/tensor";

export interface LabelledImages {
  /** [images, channels, height, width], row-major */
  readonly pixels: Float32Array;
  readonly shape: readonly [number, number, number, number];
  readonly labels: Int32Array;
}

/** Reads `pixels` [images, channels, height, width] and `labels` [images] of a safetensors file. Throws DataError. */
export async function readImages(path: string, backend: Backend): Promise<LabelledImages> {
  const source = await openSafetensorsFile(path);
  const read: Tensor[] = [];
  try {
    for (const name of ["pixels", "labels"]) {
      if (!source.has(name)) throw new DataError(`${path} holds no ${name}`);
      if (name === "labels" && !isInteger(source.info(name).dtype))
        throw new DataError(`${path}: ${name} is ${source.info(name).dtype}, not integers`);
    }
    const { shape } = source.info("pixels");
    const count = source.info("labels").shape;
    if (shape.length !== 4 || count.length !== 1 || count[0] !== shape[0])
      throw new DataError(
        `${path}: pixels [${shape.join(", ")}] and labels [${count.join(", ")}] are not [images, channels, height, width] and [images]`,
      );
    read.push(await readTensor(source, "pixels", backend, { dtype: "float32" }));
    read.push(await readTensor(source, "labels", backend, { dtype: "int32" }));
    const [pixels, labels] = await Promise.all(read.map((t) => t.data()));
    const negative = labels!.findIndex((label) => label < 0);
    if (negative >= 0) throw new DataError(`${path}: label ${labels![negative]} of image ${negative} is negative`);
    return {
      pixels: pixels as Float32Array,
      shape: shape as [number, number, number, number],
      labels: labels as Int32Array,
    };
  } finally {
    for (const t of read) t.dispose();
    await source.close();
  }
}

/** Throws DataError naming a label that is none of the model's classes. */
export function expectLabels(path: string, { labels }: LabelledImages, classes: number): void {
  const at = labels.findIndex((label) => label >= classes);
  if (at >= 0)
    throw new DataError(`${path}: label ${labels[at]} of image ${at} is none of the model's ${classes} classes`);
}

/** Some of the images, one after another. */
export function pick({ pixels, shape, labels }: LabelledImages, places: readonly number[]): LabelledImages {
  const size = shape[1] * shape[2] * shape[3];
  const out = new Float32Array(places.length * size);
  for (const [i, at] of places.entries()) out.set(pixels.subarray(at * size, (at + 1) * size), i * size);
  return {
    pixels: out,
    shape: [places.length, shape[1], shape[2], shape[3]],
    labels: Int32Array.from(places, (at) => labels[at]!),
  };
}
