import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { relativeError } from "@mamba-ts/backend-testing";
import { generate, generateBatch } from "@mamba-ts/generate";
import { Jamba, type JambaConfig } from "@mamba-ts/jamba";
import { scope } from "@mamba-ts/tensor";
import { constantSchedule, Trainer } from "@mamba-ts/train";
import * as fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { perturbed, run, see, seeInChunks, small, vocabSize } from "./support.js";

const ids = (minLength: number, maxLength: number) =>
  fc.array(fc.integer({ min: 0, max: vocabSize - 1 }), { minLength, maxLength });
const expectClose = (got: number[][], want: number[][]): void => {
  expect(relativeError(got.flat(), want.flat())).toBeLessThan(1e-5);
};

describe.each([
  ["fused", undefined],
  ["composed", {}],
] as const)("a Jamba, %s", (_, fused) => {
  const backend = createCpuBackend({ poison: true, ...(fused === undefined ? {} : { fused }) });
  let model: Jamba;
  let resting: number;
  beforeAll(() => {
    model = perturbed(small, backend);
    resting = backend.memory().liveBuffers;
  });
  afterEach(() => expect(backend.memory().liveBuffers).toBe(resting));
  afterAll(() => model.dispose());
  const check = (property: fc.IAsyncProperty<unknown>) =>
    fc.assert(property as fc.IAsyncProperty<unknown>, { numRuns: 10 });

  test("cached = uncached: any chunks, steps among them, as values and in place", async () => {
    await check(
      fc.asyncProperty(ids(9, 9), ids(9, 9), fc.boolean(), async (a, b, inPlace) => {
        const whole = await see(model, [a, b]);
        for (const sizes of [
          [1, 1, 1, 1, 1, 1, 1, 1, 1],
          [4, 5],
          [2, 1, 6],
          [8, 1],
        ])
          (await seeInChunks(model, [a, b], sizes, { inPlace })).forEach((row, i) => {
            expectClose(row, whole[i]!);
          });
      }),
    );
  });

  test("packed = separate, however it is cut; an id that comes back is a new sequence", async () => {
    await check(
      fc.asyncProperty(ids(2, 5), ids(1, 4), ids(1, 4), fc.constantFrom(1, 3, 20), async (a, b, c, size) => {
        const row = [...a, ...b, ...c];
        const segments = [[...a.map(() => 5), ...b.map(() => 2), ...c.map(() => 5)]];
        const sizes = Array.from({ length: Math.ceil(row.length / size) }, () => size);
        const want = [...(await see(model, [a]))[0]!, ...(await see(model, [b]))[0]!, ...(await see(model, [c]))[0]!];
        expectClose((await see(model, [row], { segments }))[0]!, want);
        expectClose((await seeInChunks(model, [row], sizes, { segments }))[0]!, want);
        expectClose((await seeInChunks(model, [row], sizes, { segments, inPlace: true }))[0]!, want);
      }),
    );
  });

  test("padding on the left, on the right and between changes nothing, cached or not", async () => {
    await check(
      fc.asyncProperty(ids(3, 6), ids(1, 3), fc.constantFrom(1, 2, 20), async (a, junk, size) => {
        const want = (await see(model, [a]))[0]!;
        const cases: [number[], number[]][] = [
          [
            [...junk, ...a],
            [...junk.map(() => -1), ...a.map(() => 0)],
          ],
          [
            [...a, ...junk],
            [...a.map(() => 0), ...junk.map(() => -1)],
          ],
          [
            [...a.slice(0, 2), ...junk, ...a.slice(2)],
            [0, 0, ...junk.map(() => -1), ...a.slice(2).map(() => 0)],
          ],
        ];
        for (const [row, segments] of cases) {
          const real = (all: number[][]) => all.filter((__, t) => segments[t] === 0);
          expectClose(real((await see(model, [row], { segments: [segments] }))[0]!), want);
          const sizes = Array.from({ length: Math.ceil(row.length / size) }, () => size);
          expectClose(
            real((await seeInChunks(model, [row], sizes, { segments: [segments], inPlace: true }))[0]!),
            want,
          );
        }
      }),
    );
  });

  test("padding counts in no router's load", async () => {
    const loss = async (rows: number[][], segments: number[][] | undefined) => {
      const t = scope(() => model.forward(rows, { segments, train: true, logits: "none" }).auxLoss!);
      const value = await t.item();
      t.dispose();
      return value;
    };
    const plain = await loss([[1, 2, 3, 4]], undefined);
    expect(await loss([[9, 1, 2, 3, 4, 7]], [[-1, 0, 0, 0, 0, -1]])).toBeCloseTo(plain, 6);
    expect(await loss([[9, 1, 2, 3, 4, 7]], undefined)).not.toBeCloseTo(plain, 4);
  });

  test("batched generation with prompts of different lengths = each alone", async () => {
    const tokenizer = { encode: () => [], streamDecoder: () => ({ push: () => "", flush: () => "" }) };
    const tokens = async (prompts: number[][]): Promise<number[][]> => {
      const rows: number[][] = prompts.map(() => []);
      for await (const step of generateBatch(model, tokenizer, prompts, {
        temperature: 0,
        maxTokens: 6,
        prefillChunk: 2,
      }))
        step.forEach((token, r) => {
          if (token !== undefined) rows[r]!.push(token.id);
        });
      return rows;
    };
    const prompts = [[1, 2, 3, 4, 5], [6], [7, 8, 9]];
    const together = await tokens(prompts);
    for (const [r, prompt] of prompts.entries()) expect(together[r]).toEqual((await tokens([prompt]))[0]);
  });

  test("the state is a value: cloned, saved, restored, rewound", async () => {
    const { state } = await run(model, [[9, 1, 2, 3]], { segments: [[-1, 0, 0, 0]] });
    const bytes = await state.save();
    const want = await see(model, [[4, 5]], { state });
    const restored = await model.restoreState(bytes);
    const clone = state.clone();
    const moved = await run(model, [[7, 7, 7]], { state: clone, into: clone });
    expect(moved.state).toBe(clone);
    expect(clone.length).toBe(7);
    expect(await see(model, [[4, 5]], { state: restored })).toEqual(want);
    expect(await see(model, [[4, 5]], { state })).toEqual(want);
    await expect(model.restoreState(bytes.slice(0, 40))).rejects.toMatchObject({ code: "checkpoint" });
    for (const s of [state, restored, clone]) s.dispose();
  });

  test("memory grows only by the attention layers' cache, and is known before it is taken", async () => {
    const state = model.createState(2);
    expect(state.bytes).toBe(model.stateBytes(2, 0));
    state.dispose();
    const { state: after } = await run(model, [Array.from({ length: 12 }, (__, i) => i % 11), new Array(12).fill(3)]);
    expect(after.bytes).toBe(model.stateBytes(2, 12));
    // Two attention layers, keys and values of 2 heads of width 2, in float32.
    expect(model.stateBytes(2, 13) - model.stateBytes(2, 12)).toBe(2 * 2 * 2 * 2 * 2 * 4);
    after.dispose();
  });

  test("generation refuses a prompt that is too long before it reads any of it", async () => {
    const limited = perturbed({ ...small, maxLength: 5 }, backend);
    const tokenizer = { encode: () => [], streamDecoder: () => ({ push: () => "", flush: () => "" }) };
    let read = 0;
    const stream = generate(limited, tokenizer, [1, 2, 3, 4, 5, 6], { prefillChunk: 2, onPrefill: () => read++ });
    await expect(stream.next()).rejects.toMatchObject({ code: "invalid-argument" });
    expect(read).toBe(0);
    limited.dispose();
  });

  test("a cache past its limit, a state of another batch or shape: typed errors", async () => {
    const limited = perturbed({ ...small, maxLength: 5 }, backend);
    const { state } = await run(limited, [[1, 2, 3]]);
    expect(() => limited.forward([[4, 5, 6]], { state })).toThrow(
      expect.objectContaining({ code: "invalid-argument" }),
    );
    expect(() => limited.forward([[4], [5]], { state })).toThrow(expect.objectContaining({ code: "shape" }));
    expect(() => limited.createState(1, { capacity: 6 })).toThrow(
      expect.objectContaining({ code: "invalid-argument" }),
    );
    const other = limited.createState(2);
    expect(() => scope(() => limited.forward([[4]], { state, into: other }))).toThrow(
      expect.objectContaining({ code: "shape" }),
    );
    for (const s of [state, other]) s.dispose();
    limited.dispose();
  });
});

test("one batch is learnt by heart", async () => {
  const backend = createCpuBackend();
  const model = Jamba.create({ ...small, dModel: 16, dFeedForward: 16, vocabSize: 32 }, { backend, seed: 5 });
  const tokens = [
    Int32Array.of(3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3),
    Int32Array.of(2, 7, 1, 8, 2, 8, 1, 8, 2, 8, 4, 5, 9, 0, 4, 5),
  ];
  const trainer = new Trainer(model, {
    data: { batch: async () => ({ tokens }), bytesPerToken: 1, isContiguous: false },
    schedule: constantSchedule(1e-2),
    optimizer: { weightDecay: 0 },
  });
  let loss = Number.NaN;
  for (let i = 0; i < 150; i++) ({ loss } = await trainer.update());
  expect(loss).toBeLessThan(0.05);
  trainer.dispose();
  model.dispose();
});

test.each<[string, Partial<JambaConfig>]>([
  ["nHeads", { nHeads: 3 }],
  ["nKvHeads", { nKvHeads: 3 }],
  ["topK", { topK: 4 }],
  ["attnLayerOffset", { attnLayerOffset: 2 }],
  ["layerTypes", { layerTypes: ["mamba"] }],
  ["type", { layerTypes: ["mamba", "mamba", "conv" as never, "mamba"] }],
  ["nothing", { nothing: 1 } as never],
])("a wrong %s is refused", (name, wrong) => {
  expect(() => new Jamba({ ...small, ...wrong })).toThrow(
    expect.objectContaining({ code: "config", message: expect.stringContaining(name) }),
  );
});

test("one expert means no experts", () => {
  const names = [...new Jamba({ ...small, nExperts: 1 }).namedParameters()].map(([name]) => name);
  expect(names.some((name) => name.includes("router"))).toBe(false);
  expect(names).toContain("model.layers.1.feed_forward.gate_proj.weight");
});
