/** A real backend's recordings, computed on this thread and in a worker: replayed generation = launched generation, bit for bit. */
import { createBackend } from "@mamba-ts/backend-wasm";
import { type GenerateOptions, generateBatch, type Tokenizer } from "@mamba-ts/generate";
import { Mamba, type MambaState } from "@mamba-ts/mamba";
import { fromHost, Rng } from "@mamba-ts/tensor";
import { expect, test } from "vitest";

const numbers: Tokenizer = { encode: () => [], streamDecoder: () => ({ push: (id) => `${id} `, flush: () => "" }) };
const prompts = [[1, 2, 3], [4], [5, 6]];

test.each([
  ["on this thread", { threads: 1 }],
  ["in a worker", { threads: 2, worker: true }],
] as const)("%s", async (_, kind) => {
  using backend = await createBackend({ ...kind, poison: true });
  {
    using model = Mamba.create({ dModel: 32, nLayer: 2, vocabSize: 50 }, { backend, seed: 1 });
    const rng = new Rng(6);
    for (const [name, p] of model.namedParameters())
      if (/embed|proj/.test(name)) p.value = fromHost(backend, rng.normal(p.size), p.shape, "float32");
    const ofModel = backend.memory();
    const { capture } = backend;
    const run = async (batch: number, options: GenerateOptions<MambaState>, replays: boolean) => {
      (backend as { capture: unknown }).capture = replays ? capture : undefined;
      const made: unknown[] = [];
      for await (const step of generateBatch(model, numbers, prompts.slice(0, batch), options)) made.push(step);
      expect(backend.memory()).toEqual(ofModel);
      return made;
    };
    for (const [batch, options] of [
      [1, { temperature: 0 }],
      [1, { seed: 3, temperature: 2 }],
      [3, { seed: 4, temperature: 1.5, topK: 30, topP: 0.9, minP: 0.01 }],
    ] as const) {
      const want = await run(batch, { maxTokens: 20, ...options }, false);
      expect(new Set(want.map((step) => JSON.stringify(step))).size).toBeGreaterThan(8);
      expect(await run(batch, { maxTokens: 20, ...options }, true)).toEqual(want);
    }
  }
  expect(backend.memory().liveBuffers).toBe(0);
});
