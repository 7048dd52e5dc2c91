import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { Rng } from "@mamba-ts/tensor";
import { fromBytes, type Picture } from "@mamba-ts/vision-mamba/images";
import * as jpeg from "jpeg-js";
import { expect, test } from "vitest";
import { classify, confusion, normalisationOf, type Settings, trainClassifier } from "../src/classify.js";
import { atSize, fromIdx, mnistFolder, openDataset } from "../src/data.js";
import { confusionPicture, mistakesPicture, segmentationPicture } from "../src/pictures.js";
import { noisy, trainSegmentation } from "../src/segment.js";

const settings: Settings = {
  dModel: 8,
  nLayer: 1,
  patchSize: 4,
  steps: 40,
  batch: 8,
  lr: 1e-2,
  dropPath: 0,
  shift: 0,
  flip: false,
  seed: 1,
};

/** Bright on the left or on the right. */
function sides(count: number): { pictures: Picture[]; labels: Int32Array } {
  const rng = new Rng(2);
  const labels = Int32Array.from({ length: count }, (_, i) => i % 2);
  const pictures = Array.from(labels, (label) => {
    const noise = rng.uniform(64);
    return fromBytes(
      Array.from({ length: 64 }, (_, i) => (i % 8 < 4 === (label === 0) ? 200 : 20) + 40 * noise[i]!),
      8,
      8,
      1,
    );
  });
  return { pictures, labels };
}

test("learns to tell two kinds apart, says so in both pictures, and segments", async () => {
  const backend = createCpuBackend();
  const examples = sides(32);
  const normalisation = normalisationOf(examples.pictures);
  const { model, losses } = await trainClassifier(settings, examples, normalisation, 2, backend, () => {});
  expect(losses.at(-1)!).toBeLessThan(0.2);
  const said = await classify(model, examples.pictures, normalisation, 10);
  const counts = confusion(examples.labels, said, 2);
  expect(counts.flat().reduce((a, b) => a + b, 0)).toBe(32);
  expect(counts[0]![0]! + counts[1]![1]!).toBeGreaterThan(30);
  expect(confusionPicture(counts, ["left", "right"])).toContain("left");
  expect(
    mistakesPicture(
      examples.pictures,
      examples.labels,
      examples.labels.map((l) => 1 - l),
      ["left", "right"],
      3,
    ).match(/tspan fill="#222"/g),
  ).toHaveLength(3);
  const result = await trainSegmentation(model, examples.pictures, examples.pictures.slice(0, 4), normalisation, {
    steps: 60,
    batch: 4,
    lr: 1e-2,
    seed: 1,
  });
  expect(result.iou).toBeGreaterThan(result.baseline + 0.3);
  expect(result.shown).toHaveLength(4);
  expect(segmentationPicture(result)).toContain("its mask");
  model.dispose();
  expect(backend.memory().liveBuffers).toBe(0);
});

test("the mask is of the picture, not of the noise", () => {
  const [picture] = sides(1).pictures;
  const { mask, picture: under } = noisy(picture!, new Rng(1));
  expect(Array.from(mask)).toEqual(Array.from({ length: 64 }, (_, i) => (i % 8 < 4 ? 1 : 0)));
  expect(under.data).not.toEqual(picture!.data);
});

test("MNIST as its package has it", async () => {
  const { train, test: held, classes } = await openDataset(mnistFolder(), { train: 50, test: 20 });
  expect([train.pictures.length, held.pictures.length, classes.length]).toEqual([50, 20, 10]);
  // The first ten labels of the training set.
  expect(Array.from(train.labels.slice(0, 10))).toEqual([5, 0, 4, 1, 9, 2, 1, 3, 1, 4]);
  expect(train.pictures[0]).toMatchObject({ width: 28, height: 28, channels: 1 });
  expect(atSize(train, 14).pictures[0]).toMatchObject({ width: 14, height: 14 });
});

test("folders of pictures; damaged files are refused", async () => {
  const folder = mkdtempSync(join(tmpdir(), "classify-"));
  for (const kind of ["train", "test"])
    for (const [name, shade] of [
      ["dark", 20],
      ["light", 230],
    ] as const) {
      mkdirSync(join(folder, kind, name), { recursive: true });
      const data = Buffer.from(Array.from({ length: 8 * 8 * 4 }, (_, i) => (i % 4 === 3 ? 255 : shade)));
      writeFileSync(join(folder, kind, name, "0.jpg"), jpeg.encode({ width: 8, height: 8, data }, 90).data);
    }
  // The same as an archive.
  for (const name of ["all.tar", "all.tar.gz"])
    execFileSync("tar", [name.endsWith("gz") ? "-czf" : "-cf", join(folder, name), "-C", folder, "train", "test"]);
  for (const path of [folder, join(folder, "all.tar"), join(folder, "all.tar.gz")]) {
    const { classes, train, test: held, isJpeg } = await openDataset(path, { train: 10, test: 10 });
    expect(classes).toEqual(["dark", "light"]);
    expect([train.labels.length, held.labels.length, isJpeg]).toEqual([2, 2, true]);
    for (const [i, p] of train.pictures.entries()) expect(p.data[0]! > 0.5).toBe(train.labels[i] === 1);
  }
  const whole = readFileSync(join(folder, "all.tar"));
  writeFileSync(join(folder, "short.tar"), whole.subarray(0, 900));
  writeFileSync(join(folder, "odd.tar"), Buffer.alloc(2000, 65));
  writeFileSync(join(folder, "empty.tar"), Buffer.alloc(1024));
  writeFileSync(join(folder, "odd.tar.gz"), "no gzip");
  writeFileSync(join(folder, "odd.tar.xz"), "no xz");
  for (const name of ["short.tar", "odd.tar", "empty.tar", "odd.tar.gz", "odd.tar.xz", "none.tar"])
    await expect(openDataset(join(folder, name), { train: 1, test: 1 })).rejects.toMatchObject({ code: "data" });
  rmSync(folder, { recursive: true });
  await expect(openDataset(join(folder, "none"), { train: 1, test: 1 })).rejects.toMatchObject({ code: "data" });
  expect(() => fromIdx(new Uint8Array(20), new Uint8Array(20), 5)).toThrow(expect.objectContaining({ code: "data" }));
});
