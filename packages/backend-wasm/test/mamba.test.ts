// A whole model on a backend that has primitives only, beside the same model on backend-cpu.
import type { Backend } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { relativeError } from "@mamba-ts/backend-testing";
import { Mamba } from "@mamba-ts/mamba";
import { Rng, scope } from "@mamba-ts/tensor";
import { constantSchedule, memoryTokens, randomWindows, Trainer } from "@mamba-ts/train";
import { expect, test } from "vitest";
import { createBackend } from "../src/index.js";

const config = { dModel: 8, nLayer: 2, vocabSize: 16, dState: 4 };
const tokens = [0, 1].map((row) => new Rng(5, row).integers(12, config.vocabSize));

/** Runs `f` on a fresh backend of each kind; nothing may be live when it is done. */
async function onBoth<T>(f: (backend: Backend) => Promise<T>): Promise<{ readonly template: T; readonly cpu: T }> {
  const alone = async (backend: Backend): Promise<T> => {
    const result = await f(backend);
    expect(backend.memory()).toEqual({ liveBuffers: 0, liveBytes: 0 });
    backend[Symbol.dispose]();
    return result;
  };
  return { template: await alone(await createBackend({ poison: true })), cpu: await alone(createCpuBackend()) };
}

async function logits(backend: Backend): Promise<ArrayLike<number>> {
  using model = Mamba.create(config, { backend, seed: 3 });
  using result = scope(() => model.forward(tokens).logits!); // [2, 12, vocabSize]
  expect(result.shape).toEqual([2, 12, config.vocabSize]);
  return result.data();
}

/** The first half of the tokens, then the second from the state the first one ended in. */
async function logitsInChunks(backend: Backend): Promise<ArrayLike<number>> {
  using model = Mamba.create(config, { backend, seed: 3 });
  using result = scope(() => {
    const { state } = model.forward(tokens.map((row) => row.subarray(0, 6)));
    return model.forward(
      tokens.map((row) => row.subarray(6)),
      { state, logits: "last" },
    ).logits!; // [2, 1, vocabSize]
  });
  return result.data();
}

test("logits are backend-cpu's", async () => {
  const { template, cpu } = await onBoth(logits);
  expect(relativeError(template, cpu)).toBeLessThan(1e-5);
  expect(Math.hypot(...Array.from(cpu))).toBeGreaterThan(0);
});

test("a carried state goes on where it was", async () => {
  const [whole, chunks] = [await onBoth(logits), await onBoth(logitsInChunks)];
  expect(relativeError(chunks.template, chunks.cpu)).toBeLessThan(1e-5);
  const last = [0, 1].flatMap((row) =>
    Array.from(whole.template).slice((row * 12 + 11) * config.vocabSize, (row + 1) * 12 * config.vocabSize),
  );
  expect(relativeError(chunks.template, last)).toBeLessThan(1e-5);
});

async function losses(backend: Backend): Promise<number[]> {
  using model = Mamba.create(config, { backend, seed: 3 });
  // A text that repeats: there is something to learn.
  const text = memoryTokens(Array.from({ length: 256 }, (_, i) => (3 * i + (i % 4)) % config.vocabSize));
  const data = randomWindows(text, { batch: 2, length: 8, seed: 1 });
  using trainer = new Trainer(model, { data, schedule: constantSchedule(0.01) });
  const seen: number[] = [];
  for (let step = 0; step < 12; step++) seen.push((await trainer.update()).loss);
  return seen;
}

test("training gives backend-cpu's losses, and learns", async () => {
  const { template, cpu } = await onBoth(losses);
  for (const [step, loss] of template.entries()) expect(Math.abs(loss / cpu[step]! - 1)).toBeLessThan(1e-4);
  expect(template.at(-1)!).toBeLessThan(0.9 * template[0]!);
});
