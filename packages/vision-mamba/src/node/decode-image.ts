import { readFile } from "node:fs/promises";
import { DataError } from "@mamba-ts/backend";
import { fromBytes, type Picture } from "../images.js";
import { decodePng, isPng } from "./png.js";

/** What is used of sharp, where it is installed. */
type Sharp = (input: Uint8Array) => {
  toColourspace(space: string): {
    ensureAlpha(): { raw(): { toBuffer(o: { resolveWithObject: true }): Promise<Raw> } };
  };
};
interface Raw {
  readonly data: Uint8Array;
  readonly info: { readonly width: number; readonly height: number };
}

/** sharp reads every format; it is optional. */
async function loadSharp(): Promise<Sharp | undefined> {
  // Through a variable, so that no compiler or bundler wants it.
  const name = "sharp";
  return (import(name) as Promise<{ default: Sharp }>).then(
    (module) => module.default,
    () => undefined,
  );
}

/**
 * Decodes a picture: PNG and JPEG by themselves, all else with sharp where it is installed.
 * Rejects with DataError for what is damaged or of an unknown format.
 */
export async function decodeImage(bytes: Uint8Array): Promise<Picture> {
  if (isPng(bytes)) return decodePng(bytes);
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return decodeJpeg(bytes);
  const sharp = await loadSharp();
  if (sharp === undefined)
    throw new DataError("image: neither PNG nor JPEG", { hint: "install sharp, which reads other formats" });
  const { data, info } = await sharp(bytes)
    .toColourspace("srgb")
    .ensureAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true })
    .catch((cause: Error) => {
      throw new DataError(`image: it cannot be decoded: ${cause.message}`, { cause });
    });
  return fromBytes(data, info.width, info.height, 4);
}

async function decodeJpeg(bytes: Uint8Array): Promise<Picture> {
  const { default: jpeg } = await import("jpeg-js");
  try {
    const { width, height, data } = jpeg.decode(bytes, {
      useTArray: true,
      formatAsRGBA: false,
      tolerantDecoding: false,
    });
    return fromBytes(data, width, height, 3);
  } catch (cause) {
    throw new DataError(`image: the JPEG cannot be decoded: ${(cause as Error).message}`, { cause });
  }
}

/** `decodeImage` of a file. */
export async function readImage(path: string): Promise<Picture> {
  const bytes = await readFile(path).catch((cause: Error) => {
    throw new DataError(`${path} cannot be read: ${cause.message}`, { cause });
  });
  return decodeImage(bytes);
}
