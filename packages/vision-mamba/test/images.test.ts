import { deflateSync } from "node:zlib";
import { Rng } from "@mamba-ts/tensor";
import {
  augment,
  centreCrop,
  crop,
  fromBytes,
  imagenet,
  mirror,
  resize,
  toPixels,
} from "@mamba-ts/vision-mamba/images";
import { decodeImage, decodePng } from "@mamba-ts/vision-mamba/node";
import * as jpeg from "jpeg-js";
import { describe, expect, test } from "vitest";

const ramp = (width: number, height: number) =>
  fromBytes(
    Array.from({ length: width * height * 3 }, (_, i) => (i * 7) % 256),
    width,
    height,
    3,
  );

function chunk(name: string, data: Uint8Array): Buffer {
  const out = Buffer.alloc(12 + data.length);
  out.writeUInt32BE(data.length, 0);
  out.write(name, 4, "latin1");
  out.set(data, 8);
  return out;
}

/** A PNG whose rows are filtered by `filters`, from samples of `depth` bits. */
function png(
  width: number,
  height: number,
  depth: number,
  type: number,
  rows: number[][],
  filters: number[],
  extra: Buffer[] = [],
): Buffer {
  const step = Math.max(1, ({ 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }[type]! * depth) >> 3);
  const packed = rows.map((row) => {
    const bits = row.map((v) => v.toString(2).padStart(depth, "0")).join("");
    return Array.from({ length: Math.ceil(bits.length / 8) }, (_, i) =>
      Number.parseInt(bits.slice(i * 8, i * 8 + 8).padEnd(8, "0"), 2),
    );
  });
  const paeth = (a: number, b: number, c: number) => {
    const p = a + b - c;
    return [a, b, c].reduce((best, v) => (Math.abs(p - v) < Math.abs(p - best) ? v : best), a);
  };
  const raw = packed.flatMap((row, y) => {
    const f = filters[y % filters.length]!;
    const up = packed[y - 1];
    return [
      f,
      ...row.map((v, i) => {
        const [a, b, c] = [row[i - step] ?? 0, up?.[i] ?? 0, up?.[i - step] ?? 0];
        return (v - [0, a, b, (a + b) >> 1, paeth(a, b, c)][f]!) & 255;
      }),
    ];
  });
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([depth, type, 0, 0, 0], 8);
  return Buffer.concat([
    Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]),
    chunk("IHDR", header),
    ...extra,
    chunk("IDAT", deflateSync(Buffer.from(raw))),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

describe("PNG", () => {
  test.each([0, 1, 2, 3, 4])("filter %i, colour", async (filter) => {
    const rows = Array.from({ length: 5 }, (_, y) =>
      Array.from({ length: 7 * 3 }, (__, i) => (y * 31 + i * i * 5) % 256),
    );
    const picture = await decodeImage(png(7, 5, 8, 2, rows, [filter]));
    expect(picture).toMatchObject({ width: 7, height: 5, channels: 3 });
    const want = fromBytes(rows.flat(), 7, 5, 3);
    expect(picture.data).toEqual(want.data);
  });

  test("grey of every depth, a palette, alpha on white", () => {
    for (const depth of [1, 2, 4, 8]) {
      const top = 2 ** depth - 1;
      const rows = [
        [0, top, 0, top, top],
        [top, 0, 0, top, 0],
      ];
      const { data } = decodePng(png(5, 2, depth, 0, rows, [0, 2]));
      expect(Array.from(data.slice(0, 10))).toEqual(rows.flat().map((v) => v / top));
    }
    const palette = chunk("PLTE", Uint8Array.of(255, 0, 0, 0, 0, 255));
    const { data } = decodePng(png(3, 1, 8, 3, [[1, 0, 1]], [0], [palette]));
    expect(Array.from(data)).toEqual([0, 1, 0, 0, 0, 0, 1, 0, 1]);
    const clear = decodePng(png(1, 1, 8, 6, [[10, 20, 30, 0]], [0]));
    expect(Array.from(clear.data)).toEqual([1, 1, 1]);
    expect(() => decodePng(png(3, 1, 8, 3, [[5, 0, 1]], [0], [palette]))).toThrow(
      expect.objectContaining({ code: "data" }),
    );
  });

  test("damage is a typed error", () => {
    const whole = png(
      4,
      4,
      8,
      0,
      Array.from({ length: 4 }, () => [1, 2, 3, 4]),
      [1],
    );
    for (const wrong of [
      whole.subarray(0, 30),
      whole.subarray(0, whole.length - 20),
      Buffer.from(whole).fill(7, 45, 52),
      Buffer.alloc(4),
    ])
      expect(() => decodePng(wrong)).toThrow(expect.objectContaining({ code: "data" }));
  });
});

test("JPEG, near enough; other formats need sharp", async () => {
  const rgba = Buffer.from(Array.from({ length: 16 * 16 * 4 }, (_, i) => (i % 4 === 3 ? 255 : 100 + (i % 4) * 40)));
  const { data: bytes } = jpeg.encode({ width: 16, height: 16, data: rgba }, 95);
  const picture = await decodeImage(bytes);
  expect(picture).toMatchObject({ width: 16, height: 16, channels: 3 });
  for (const c of [0, 1, 2]) expect(Math.abs(picture.data[c * 256 + 100]! - (100 + 40 * c) / 255)).toBeLessThan(0.03);
  await expect(decodeImage(bytes.subarray(0, 80))).rejects.toMatchObject({ code: "data" });
  await expect(decodeImage(Buffer.from("GIF89a..."))).rejects.toMatchObject({ code: "data" });
});

test("resize keeps constants and means, and the same size", () => {
  const flat = fromBytes(new Array(6 * 4 * 3).fill(51), 6, 4, 3);
  for (const [w, h] of [
    [3, 2],
    [12, 9],
    [5, 7],
  ] as const)
    for (const v of resize(flat, w, h).data) expect(v).toBeCloseTo(0.2, 6);
  const picture = ramp(8, 6);
  expect(resize(picture, 8, 6).data).toEqual(picture.data);
  const mean = (d: Float32Array) => d.reduce((a, b) => a + b, 0) / d.length;
  expect(mean(resize(picture, 4, 3).data)).toBeCloseTo(mean(picture.data), 1);
});

test("crop, mirror, centre, normalise", () => {
  const picture = ramp(5, 4);
  expect(mirror(mirror(picture))).toEqual(picture);
  expect(mirror(picture).data[0]).toBe(picture.data[4]);
  const part = crop(picture, -1, 1, 3, 2, 9);
  expect(Array.from(part.data.slice(0, 3))).toEqual([9, picture.data[5], picture.data[6]]);
  expect(centreCrop(ramp(40, 30), 16)).toMatchObject({ width: 16, height: 16 });
  const pixels = toPixels([picture, mirror(picture)], imagenet);
  expect(pixels).toHaveLength(2 * 60);
  expect(pixels[20 + 3]).toBeCloseTo((picture.data[23]! - 0.456) / 0.224, 5);
  expect(() => toPixels([picture, ramp(4, 4)], imagenet)).toThrow(expect.objectContaining({ code: "data" }));
  expect(() => fromBytes([1, 2], 1, 1, 3)).toThrow(expect.objectContaining({ code: "data" }));
});

test("augmentation is the same for the same numbers, and moves by no more than it may", () => {
  const picture = ramp(6, 6);
  expect(augment(picture, new Rng(3), { shift: 2 })).toEqual(augment(picture, new Rng(3), { shift: 2 }));
  expect(augment(picture, new Rng(3), { flip: false })).toEqual(picture);
  const rng = new Rng(5);
  const seen = new Set(Array.from({ length: 40 }, () => augment(picture, rng).data.join()));
  expect(seen.size).toBe(2);
});
