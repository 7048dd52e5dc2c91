import type { Backend } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { describeBackend } from "@mamba-ts/backend-testing";
import { encodeBytes } from "@mamba-ts/byte-io";
import { Mamba, type MambaState } from "@mamba-ts/mamba";
import { constantSchedule, memoryTokens, randomWindows, Trainer } from "@mamba-ts/train";
import { expect, test } from "vitest";
import { createBackend } from "../src/index.js";

describeBackend("template", createBackend);

test("runs and trains a Mamba to the numbers of the CPU backend", async () => {
  const results: { logits: number[]; losses: number[] }[] = [];
  for (const backend of [await createBackend(), createCpuBackend()] as Backend[]) {
    const model = Mamba.create({ dModel: 6, nLayer: 2, vocabSize: 256, dState: 2 }, { backend, seed: 1 });
    const { logits, state, hidden } = model.forward([[1, 2, 3, 4]]);
    const data = randomWindows(memoryTokens(encodeBytes("state space models ".repeat(4))), {
      batch: 1,
      length: 8,
      seed: 1,
    });
    const trainer = new Trainer<MambaState>(model, { data, schedule: constantSchedule(5e-3) });
    const losses = [];
    for (let i = 0; i < 4; i++) losses.push((await trainer.update()).loss);
    results.push({ logits: Array.from(await logits!.data()), losses });
    for (const t of [logits!, hidden, state, trainer, model]) t.dispose();
    expect(backend.memory().liveBuffers).toBe(0);
  }
  const [got, want] = results as [(typeof results)[0], (typeof results)[0]];
  expect(Math.hypot(...got.logits.map((v, i) => v - want.logits[i]!))).toBeLessThan(1e-5 * Math.hypot(...want.logits));
  for (const [i, loss] of got.losses.entries()) expect(Math.abs(loss - want.losses[i]!)).toBeLessThan(1e-4);
  expect(got.losses.at(-1)).toBeLessThan(got.losses[0]!);
});
