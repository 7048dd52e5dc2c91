/** Generation replays a recorded step here: the same tokens and log-probabilities as when every step is launched, bit for bit. */
import type { Backend } from "@mamba-ts/backend";
import { type GenerateOptions, generateBatch, type Tokenizer } from "@mamba-ts/generate";
import { Mamba, type MambaState } from "@mamba-ts/mamba";
import { MoEMamba } from "@mamba-ts/moe-mamba";
import { fromHost, Rng } from "@mamba-ts/tensor";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { backendOn } from "../src/backend.js";
import { fusedOps } from "../src/fused/index.js";
import { Gpu } from "../src/gpu/gpu.js";
import { WebGpuMemory } from "../src/storage.js";
import { adapterMissing } from "./adapter.js";

const vocabSize = 40;
const numbers: Tokenizer = {
  encode: () => [],
  streamDecoder: () => ({ push: (id) => `${id} `, flush: () => "" }),
};

describe.skipIf(adapterMissing !== undefined)("generation by replay", () => {
  let gpu: Gpu;
  let backend: Backend & { capture?: Backend["capture"] };
  let capture: Backend["capture"];
  let [captures, replays] = [0, 0];
  beforeAll(async () => {
    gpu = await Gpu.open({});
    const memory = new WebGpuMemory(gpu, { poison: true });
    backend = backendOn(gpu, memory, fusedOps(memory));
    const { capture: own } = backend;
    capture = (fn) => {
      captures++;
      const recorded = own!(fn);
      return {
        replay: () => {
          replays++;
          recorded.replay();
        },
        [Symbol.dispose]: () => recorded[Symbol.dispose](),
      };
    };
  });
  afterAll(() => {
    expect(backend.memory().liveBuffers).toBe(0);
    backend[Symbol.dispose]();
  });

  const collect = async (
    model: Mamba | MoEMamba,
    prompts: readonly (readonly number[])[],
    options: GenerateOptions<MambaState>,
  ) => {
    const before = { ...backend.memory() };
    const results = [];
    for (const offered of [undefined, capture]) {
      (backend as { capture: unknown }).capture = offered;
      [captures, replays] = [0, 0];
      const made: unknown[] = [];
      for await (const tokens of generateBatch(model, numbers, prompts, options)) made.push(tokens);
      expect(backend.memory()).toEqual(before);
      results.push({ made, captures, replays });
    }
    return { launched: results[0]!, replayed: results[1]! };
  };

  const prompts = Array.from({ length: 9 }, (_, r) =>
    Array.from({ length: 1 + (r % 4) }, (_t, i) => (7 * r + i) % vocabSize),
  );
  test.each<[string, number, GenerateOptions<MambaState>]>([
    ["greedy", 1, { temperature: 0 }],
    ["draws", 1, { temperature: 1.5, seed: 2 ** 33 + 1 }],
    ["with every filter", 2, { temperature: 1.5, topK: 20, topP: 0.95, minP: 0.01, seed: 3 }],
    ["a batch, padded", 8, { temperature: 1.2, seed: 4 }],
    ["a repetition penalty", 2, { repetitionPenalty: 1.5, temperature: 1.2, seed: 5 }],
    ["a batch for which the step is composed", 9, { temperature: 1.2, seed: 4 }],
  ])("%s", async (_, batch, options) => {
    const model = Mamba.create({ dModel: 16, nLayer: 2, vocabSize }, { backend, seed: 1 });
    const rng = new Rng(6);
    for (const [name, p] of model.namedParameters())
      if (/embed|proj/.test(name)) p.value = fromHost(backend, rng.normal(p.size), p.shape, "float32");
    const { launched, replayed } = await collect(model, prompts.slice(0, batch), { maxTokens: 14, ...options });
    expect(new Set(launched.made.map((step) => JSON.stringify(step))).size).toBeGreaterThan(5);
    expect(replayed.made).toEqual(launched.made);
    expect([launched.captures, replayed.captures, replayed.replays]).toEqual([0, 1, 11]);
    model.dispose();
  });

  test("experts, chosen on the device", async () => {
    const model = MoEMamba.create({ dModel: 16, nLayer: 2, vocabSize, nExperts: 4, dExpert: 16 }, { backend, seed: 1 });
    const { launched, replayed } = await collect(model, [[1, 2, 3]], { maxTokens: 16, temperature: 2, seed: 1 });
    expect(replayed.made).toEqual(launched.made);
    expect(replayed.captures).toBe(1);
    model.dispose();
  });

  test("a given state ends as launched steps leave it", async () => {
    const model = Mamba.create({ dModel: 16, nLayer: 2, vocabSize }, { backend, seed: 1 });
    const ends: Uint8Array[] = [];
    for (const offered of [undefined, capture]) {
      (backend as { capture: unknown }).capture = offered;
      const state = model.createState(1);
      let made = 0;
      for await (const _tokens of generateBatch(model, numbers, [[1, 2]], { state, maxTokens: 30, seed: 2 }))
        if (++made === 11) break;
      ends.push(await state.save());
      state.dispose();
    }
    expect(ends[1]).toEqual(ends[0]);
    model.dispose();
  });
});
