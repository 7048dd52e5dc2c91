/** Images as numbers: what lies between a decoded picture and the model's pixels. Everything here runs in browsers too. */
import { DataError, InvalidArgumentError } from "@mamba-ts/backend";
import type { Rng } from "@mamba-ts/tensor";

/** A picture in planes, values from 0 to 1: data[(channel * height + y) * width + x]. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly data: Float32Array;
}

/** Means and standard deviations per channel. */
export interface Normalisation {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** ImageNet's, which the published models were trained with. */
export const imagenet: Normalisation = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/** A picture of `count` channels' worth of bytes per pixel, interleaved; of four the last one, alpha, is laid on white. */
export function fromBytes(bytes: ArrayLike<number>, width: number, height: number, count: 1 | 3 | 4): Picture {
  if (bytes.length !== width * height * count)
    throw new DataError(`image: ${bytes.length} bytes for ${width} x ${height} pixels of ${count} bytes each`);
  const channels = count === 4 ? 3 : count;
  const data = new Float32Array(channels * width * height);
  for (let i = 0; i < width * height; i++) {
    const alpha = count === 4 ? bytes[i * 4 + 3]! / 255 : 1;
    for (let c = 0; c < channels; c++)
      data[c * width * height + i] = (bytes[i * count + c]! / 255) * alpha + (1 - alpha);
  }
  return { width, height, channels, data };
}

/** Bilinear, over all pixels that fall into one where the picture becomes smaller (as Pillow does). */
export function resize(picture: Picture, width: number, height: number): Picture {
  if (!(Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0))
    throw new InvalidArgumentError(`resize: ${width} x ${height} pixels`);
  const { channels } = picture;
  const across = weights(picture.width, width);
  const down = weights(picture.height, height);
  const rows = new Float32Array(channels * picture.height * width);
  for (let r = 0; r < channels * picture.height; r++)
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (const [from, w] of across[x]!) sum += w * picture.data[r * picture.width + from]!;
      rows[r * width + x] = sum;
    }
  const data = new Float32Array(channels * height * width);
  for (let c = 0; c < channels; c++)
    for (let y = 0; y < height; y++)
      for (const [from, w] of down[y]!)
        for (let x = 0; x < width; x++)
          data[(c * height + y) * width + x]! += w * rows[(c * picture.height + from) * width + x]!;
  return { width, height, channels, data };
}

/** For each of `to` places, the source places it is made of, with weights that add up to 1. */
function weights(from: number, to: number): (readonly [number, number])[][] {
  const scale = Math.max(1, from / to);
  return Array.from({ length: to }, (_, i) => {
    const centre = ((i + 0.5) * from) / to;
    const parts: [number, number][] = [];
    for (let j = Math.max(0, Math.floor(centre - scale)); j < Math.min(from, Math.ceil(centre + scale)); j++) {
      const w = 1 - Math.abs((j + 0.5 - centre) / scale);
      if (w > 0) parts.push([j, w]);
    }
    const total = parts.reduce((s, [, w]) => s + w, 0);
    return parts.map(([j, w]) => [j, w / total] as const);
  });
}

/** A part of a picture; what lies outside of it is `fill`. */
export function crop(picture: Picture, left: number, top: number, width: number, height: number, fill = 0): Picture {
  const { channels } = picture;
  const data = new Float32Array(channels * width * height).fill(fill);
  for (let c = 0; c < channels; c++)
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        const [fx, fy] = [x + left, y + top];
        if (fx >= 0 && fy >= 0 && fx < picture.width && fy < picture.height)
          data[(c * height + y) * width + x] = picture.data[(c * picture.height + fy) * picture.width + fx]!;
      }
  return { width, height, channels, data };
}

/** Left and right exchanged. */
export function mirror(picture: Picture): Picture {
  const { width } = picture;
  return { ...picture, data: picture.data.map((_, i) => picture.data[i - (i % width) + width - 1 - (i % width)]!) };
}

/** For evaluation, as the published models: the shorter side to size / ratio, then the middle. */
export function centreCrop(picture: Picture, size: number, ratio = 0.875): Picture {
  const scale = size / ratio / Math.min(picture.width, picture.height);
  const large = resize(picture, Math.round(picture.width * scale), Math.round(picture.height * scale));
  return crop(large, Math.round((large.width - size) / 2), Math.round((large.height - size) / 2), size, size);
}

/** For training on small pictures: mirrored half of the time (unless told not to), and moved by up to `shift` pixels. */
export function augment(
  picture: Picture,
  rng: Rng,
  { shift = 0, flip = true }: { readonly shift?: number; readonly flip?: boolean } = {},
): Picture {
  const [turn, dx, dy] = rng.uniform(3) as unknown as [number, number, number];
  const move = (u: number): number => Math.floor(u * (2 * shift + 1)) - shift;
  const turned = flip && turn < 0.5 ? mirror(picture) : picture;
  return shift === 0 ? turned : crop(turned, move(dx), move(dy), turned.width, turned.height);
}

/**
 * Pictures of one size as the model's pixels, normalised.
 * @returns [pictures, channels, height, width], row-major
 */
export function toPixels(pictures: readonly Picture[], { mean, std }: Normalisation): Float32Array {
  const { width, height, channels } = pictures[0] ?? { width: 0, height: 0, channels: 0 };
  const size = channels * width * height;
  const out = new Float32Array(pictures.length * size);
  for (const [i, picture] of pictures.entries()) {
    if (picture.width !== width || picture.height !== height || picture.channels !== channels)
      throw new DataError(
        `image ${i}: ${picture.channels} x ${picture.height} x ${picture.width}, the first is ${channels} x ${height} x ${width}`,
        { hint: "resize or crop them to one size" },
      );
    if (mean.length !== channels || std.length !== channels)
      throw new InvalidArgumentError(`toPixels: ${mean.length} means for ${channels} channels`);
    for (let j = 0; j < size; j++) {
      const c = Math.floor(j / (width * height));
      out[i * size + j] = (picture.data[j]! - mean[c]!) / std[c]!;
    }
  }
  return out;
}

/** Decodes what the browser can decode: a file, a download. Rejects with DataError where it cannot, or where there is no browser. */
export async function decodeBlob(blob: Blob): Promise<Picture> {
  if (typeof createImageBitmap !== "function" || typeof OffscreenCanvas !== "function")
    throw new DataError("image: there is no browser to decode it", {
      hint: "in Node: decodeImage of @mamba-ts/vision-mamba/node",
    });
  const bitmap = await createImageBitmap(blob).catch((cause: Error) => {
    throw new DataError(`image: it cannot be decoded: ${cause.message}`, { cause });
  });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d")!;
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return fromBytes(context.getImageData(0, 0, width, height).data, width, height, 4);
}
