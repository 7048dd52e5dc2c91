/** PNG (ISO/IEC 15948) without interlacing, every colour type and depth. */
import { inflateSync } from "node:zlib";
import { DataError } from "@mamba-ts/backend";
import { fromBytes, type Picture } from "../images.js";

const signature = [137, 80, 78, 71, 13, 10, 26, 10];
/** Samples per pixel, by colour type. */
const samplesOf: { readonly [type: number]: number } = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
/** Pictures beyond this many pixels are refused. */
const MAX_PIXELS = 2 ** 27;

export function isPng(bytes: Uint8Array): boolean {
  return signature.every((byte, i) => bytes[i] === byte);
}

/** Throws DataError for what is no PNG, damaged or interlaced. */
export function decodePng(bytes: Uint8Array): Picture {
  if (!isPng(bytes)) throw new DataError("image: this is no PNG");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const chunks = new Map<string, Uint8Array[]>();
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (at + 12 + length > bytes.length) throw new DataError("image: the PNG is truncated");
    chunks.set(name, [...(chunks.get(name) ?? []), bytes.subarray(at + 8, at + 8 + length)]);
    at += 12 + length;
  }
  const header = chunks.get("IHDR")?.[0];
  if (header === undefined || header.length < 13) throw new DataError("image: the PNG has no header");
  const head = new DataView(header.buffer, header.byteOffset, header.byteLength);
  const [width, height] = [head.getUint32(0), head.getUint32(4)];
  const [depth, type, interlaced] = [header[8]!, header[9]!, header[12]!];
  const samples = samplesOf[type];
  if (samples === undefined || ![1, 2, 4, 8, 16].includes(depth))
    throw new DataError(`image: a PNG of type ${type} and depth ${depth}`);
  if (interlaced !== 0)
    throw new DataError("image: interlaced PNGs are not read here", { hint: "install sharp, which reads them" });
  if (width === 0 || height === 0 || width * height > MAX_PIXELS)
    throw new DataError(`image: a PNG of ${width} x ${height} pixels`);
  const rowBytes = Math.ceil((width * samples * depth) / 8);
  const raw = inflated(Buffer.concat(chunks.get("IDAT") ?? []), (rowBytes + 1) * height);
  const rows = unfiltered(raw, rowBytes, height, Math.max(1, (samples * depth) >> 3));
  return toPicture(
    rows,
    { width, height, depth, type, samples, rowBytes },
    chunks.get("PLTE")?.[0],
    chunks.get("tRNS")?.[0],
  );
}

function inflated(data: Uint8Array, size: number): Uint8Array {
  let out: Uint8Array;
  try {
    out = inflateSync(data, { maxOutputLength: size + 1 });
  } catch (cause) {
    throw new DataError(`image: the PNG's data are damaged: ${(cause as Error).message}`, { cause });
  }
  if (out.length < size) throw new DataError("image: the PNG's data end early");
  return out;
}

function unfiltered(raw: Uint8Array, rowBytes: number, height: number, step: number): Uint8Array {
  const out = new Uint8Array(rowBytes * height);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (rowBytes + 1)]!;
    if (filter > 4) throw new DataError(`image: the PNG's row ${y} has filter ${filter}`);
    for (let i = 0; i < rowBytes; i++) {
      const left = i >= step ? out[y * rowBytes + i - step]! : 0;
      const above = y > 0 ? out[(y - 1) * rowBytes + i]! : 0;
      const corner = y > 0 && i >= step ? out[(y - 1) * rowBytes + i - step]! : 0;
      const guess = [0, left, above, (left + above) >> 1, paeth(left, above, corner)][filter]!;
      out[y * rowBytes + i] = raw[y * (rowBytes + 1) + 1 + i]! + guess;
    }
  }
  return out;
}

function paeth(a: number, b: number, c: number): number {
  const [pa, pb, pc] = [Math.abs(b - c), Math.abs(a - c), Math.abs(a + b - 2 * c)];
  return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

interface Layout {
  readonly width: number;
  readonly height: number;
  readonly depth: number;
  readonly type: number;
  readonly samples: number;
  readonly rowBytes: number;
}

function toPicture(
  rows: Uint8Array,
  d: Layout,
  palette: Uint8Array | undefined,
  opacity: Uint8Array | undefined,
): Picture {
  const { width, height, depth, type, samples, rowBytes } = d;
  const sample = (y: number, i: number): number => {
    if (depth >= 8) return rows[y * rowBytes + (i * depth) / 8]!;
    const byte = rows[y * rowBytes + ((i * depth) >> 3)]!;
    return (byte >> (8 - depth - ((i * depth) & 7))) & ((1 << depth) - 1);
  };
  const scale = depth >= 8 ? 1 : 255 / ((1 << depth) - 1);
  const rgba = new Uint8Array(width * height * 4);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const at = (y * width + x) * 4;
      if (type === 3) {
        const index = sample(y, x);
        if (palette === undefined || 3 * index + 2 >= palette.length)
          throw new DataError(`image: the PNG's palette has no colour ${index}`);
        rgba.set([palette[3 * index]!, palette[3 * index + 1]!, palette[3 * index + 2]!, opacity?.[index] ?? 255], at);
        continue;
      }
      const value = (k: number): number => Math.round(sample(y, x * samples + k) * scale);
      const grey = samples < 3;
      rgba.set(
        [value(0), value(grey ? 0 : 1), value(grey ? 0 : 2), samples === 2 ? value(1) : samples === 4 ? value(3) : 255],
        at,
      );
    }
  return fromBytes(rgba, width, height, 4);
}
