import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { expect, it } from "vitest";
import { type Digits, mnist, readDigits, sequences } from "../src/data.js";
import { batchOf, type Point, trainDigits } from "../src/run.js";

it("reads MNIST: 60,000 and 10,000 images of 28 x 28", async () => {
  const [train, test] = await Promise.all([mnist("train"), mnist("t10k")]);
  expect([train.count, train.rows, train.columns, test.count]).toEqual([60_000, 28, 28, 10_000]);
  expect([...train.labels.subarray(0, 5)]).toEqual([5, 0, 4, 1, 9]); // as every description of it begins
  expect(train.labels.every((v) => v < 10)).toBe(true);
});

it("says what is wrong with a file", () => {
  const idx = (magic: number, sizes: number[], bytes: number): Uint8Array => {
    const out = new Uint8Array(4 + 4 * sizes.length + bytes);
    new DataView(out.buffer).setUint32(0, magic);
    for (const [i, n] of sizes.entries()) new DataView(out.buffer).setUint32(4 + 4 * i, n);
    return out;
  };
  const good = idx(0x803, [2, 3, 3], 18);
  expect(readDigits(good, idx(0x801, [2], 2), "d").count).toBe(2);
  expect(() => readDigits(good.subarray(1), idx(0x801, [2], 2), "d")).toThrow(/no idx file/);
  expect(() => readDigits(good.subarray(0, 30), idx(0x801, [2], 2), "d")).toThrow(/30 bytes/);
  expect(() => readDigits(good, idx(0x801, [3], 3), "d")).toThrow(/2 images, 3 labels/);
});

it("makes sequences row by row, and averages squares of four", () => {
  const pixels = Uint8Array.from({ length: 16 }, (_, i) => i * 10);
  const digits: Digits = { count: 1, rows: 4, columns: 4, pixels, labels: Uint8Array.of(3) };
  const grey = (v: number): number => v / 127.5 - 1;
  expect([...sequences(digits, [0], false)].slice(0, 2)).toEqual([-1, Math.fround(grey(10))]);
  expect([...sequences(digits, [0], true)]).toEqual([25, 45, 105, 125].map((v) => Math.fround(grey(v))));
});

it("learns to tell which half of an image is bright", async () => {
  const count = 64;
  const labels = Uint8Array.from({ length: count }, (_, i) => i % 2);
  const pixels = Uint8Array.from({ length: count * 36 }, (_, i) => {
    const isLate = i % 36 >= 18;
    return isLate === (Math.floor(i / 36) % 2 === 1) ? 200 + (i % 7) * 5 : i % 11;
  });
  const digits: Digits = { count, rows: 6, columns: 6, pixels, labels };
  const size = { dModel: 8, nLayer: 1, batch: 8, steps: 60, minutes: 5, halved: false, probe: 8, points: 6 };
  const seen: number[] = [];
  const options = { ...size, backend: createCpuBackend(), train: digits, test: digits };
  const { model, points } = await trainDigits({ ...options, report: ({ step }) => seen.push(step) });
  expect(points.at(-1)).toMatchObject({ step: 60, images: count, accuracy: 1 });
  expect(seen.length).toBe(points.length);

  // Stopped half way and resumed, it ends with the same weights.
  const checkpoint = join(mkdtempSync(join(tmpdir(), "digits-")), "run.safetensors");
  const stop = new AbortController();
  const report = ({ step }: Point): void => {
    if (step === 20) stop.abort(new Error("stopped at 20"));
  };
  const first = trainDigits({ ...options, report, checkpoint, signal: stop.signal });
  await expect(first).rejects.toThrow("stopped at 20");
  const rest = await trainDigits({ ...options, report: () => {}, checkpoint, resume: true });
  expect(rest.points.map(({ step, loss }) => [step, loss])).toEqual(points.map(({ step, loss }) => [step, loss]));
  for (const [name, { value }] of rest.model.namedParameters())
    expect(await value.data(), name).toEqual(
      await [...model.namedParameters()].find(([other]) => other === name)![1].value.data(),
    );
  const other = trainDigits({ ...options, batch: 4, report: () => {}, checkpoint, resume: true });
  await expect(other).rejects.toThrow(/belongs to another run/);
  rest.model.dispose();
  model.dispose();
});

it("shows every image once an epoch, in an order of the epoch's own", () => {
  const epoch = (first: number): number[] => [0, 1, 2].flatMap((i) => [...batchOf(12, 4, first + i)]);
  expect(epoch(0).toSorted((a, b) => a - b)).toEqual(Array.from({ length: 12 }, (_, i) => i));
  expect(epoch(3)).not.toEqual(epoch(0));
  expect(epoch(0)).toEqual(epoch(0));
});
