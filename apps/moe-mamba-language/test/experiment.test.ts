import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { encodeBytes } from "@mamba-ts/byte-io";
import { memoryTokens, randomWindows } from "@mamba-ts/train";
import { expect, test } from "vitest";
import { type Settings, train } from "../src/experiment.js";
import { loadPicture, lossPicture } from "../src/pictures.js";

test("both models are trained on the same batches with the same active parameters; loads add up", async () => {
  const settings: Settings = {
    dModel: 8,
    nLayer: 2,
    nExperts: 4,
    steps: 12,
    batch: 2,
    length: 24,
    lr: 1e-2,
    seed: 1,
    evalBytes: 100,
  };
  const text = memoryTokens(encodeBytes("a rose is a rose is a rose; ".repeat(20)));
  const data = randomWindows(text, settings);
  const backend = createCpuBackend();
  const [dense, sparse] = [
    await train(settings, 1, data, text, backend, () => {}),
    await train(settings, 4, data, text, backend, () => {}),
  ];
  expect(backend.memory().liveBuffers).toBe(0);
  // Beside the routers, which have one row per expert.
  expect(sparse.activeParameters - dense.activeParameters).toBe(2 * 3 * 8);
  expect(sparse.parameters).toBeGreaterThan(dense.parameters);
  for (const run of [dense, sparse]) {
    expect(run.losses).toHaveLength(12);
    expect(run.losses.at(-1)!).toBeLessThan(run.losses[0]!);
    for (const row of run.load) expect(row.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 3);
  }
  expect(dense.dropped).toBe(0);
  expect(lossPicture([dense, sparse])).toContain("4 experts");
  expect(loadPicture(sparse).match(/<rect/g)).toHaveLength(1 + 2 * 4);
});
