import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { Jamba } from "@mamba-ts/jamba";
import { Rng } from "@mamba-ts/tensor";
import { expect, test } from "vitest";
import { configOf, experiment, kinds, type Settings } from "../src/experiment.js";
import { heatMap } from "../src/picture.js";
import { close, needle, needleBatches, open } from "../src/task.js";

const text = Uint8Array.from({ length: 5000 }, (_, i) => 97 + ((i * i) % 26));

test("a needle: the asked fact is where it should be, once, and the answer is its value; the rest is the book", () => {
  const rng = new Rng(1);
  for (const depth of [0, 0.3, 1])
    for (const length of [14, 32, 100]) {
      const { tokens, answer } = needle(text, { length, depth, facts: 3 }, rng);
      expect(tokens).toHaveLength(length);
      expect(tokens[length - 2]).toBe(open);
      const key = tokens[length - 1]!;
      const found = [...tokens.keys()].filter((i) => i < length - 2 && tokens[i] === open && tokens[i + 1] === key);
      expect(found).toHaveLength(1);
      expect(tokens[found[0]! + 2]).toBe(answer);
      expect(tokens[found[0]! + 3]).toBe(close);
      const slots = Math.floor((length - 2) / 4);
      expect(found[0]).toBe(4 * Math.round(depth * (slots - 1)));
      expect(tokens.filter((t) => t === close)).toHaveLength(3);
      const page = String.fromCharCode(...tokens).replace(/\{..\}|\{.$/g, (m) => ".".repeat(m.length));
      expect(new RegExp(page).test(String.fromCharCode(...text))).toBe(true);
    }
});

test("batches come again, and only the answer is learnt", async () => {
  const source = needleBatches(text, { batch: 3, length: 16, facts: 2, seed: 4 });
  const [a, b, c] = [await source.batch(5), await source.batch(5), await source.batch(6)];
  expect(a).toEqual(b);
  expect(a.tokens).not.toEqual(c.tokens);
  expect(a.targets![0]).toEqual([...new Array(16).fill(0), 1]);
});

test("three models of one size, trained and drawn", async () => {
  const settings: Settings = {
    dModel: 16,
    nLayer: 2,
    steps: 6,
    batch: 4,
    length: 14,
    facts: 1,
    lr: 1e-2,
    seed: 1,
    lengths: [14, 20],
    depths: [0, 1],
    needles: 4,
  };
  const sizes = kinds.map((kind) => new Jamba(configOf(kind, settings)).parameterCount);
  for (const size of sizes) expect(Math.abs(size / sizes[0]! - 1)).toBeLessThan(0.05);
  const backend = createCpuBackend();
  const results = [];
  for (const kind of kinds)
    results.push(await experiment(kind, settings, { train: text, test: text }, backend, () => {}));
  expect(backend.memory().liveBuffers).toBe(0);
  for (const { accuracy, loss } of results) {
    expect(accuracy.map((row) => row.length)).toEqual([2, 2]);
    expect(loss).toBeLessThan(10);
  }
  expect(heatMap(results, settings).match(/<rect/g)).toHaveLength(1 + 3 * 4);
});
