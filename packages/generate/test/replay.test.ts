/** Decoding by replay gives what launching every step gives, and leaves everything as that does. */
import { isMambaError } from "@mamba-ts/backend";
import { type GenerateOptions, generate, generateBatch, type Tokenizer } from "@mamba-ts/generate";
import { scope, write } from "@mamba-ts/tensor";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { LeakyModel, type LeakyState } from "./leaky-model.js";
import { recordingBackend } from "./recording-backend.js";

const vocabSize = 13;
const letters: Tokenizer = {
  encode: (text) => Array.from(text, (letter) => letter.charCodeAt(0) - 97),
  streamDecoder: () => ({ push: (id) => String.fromCharCode(97 + id), flush: () => "" }),
};
type Options = GenerateOptions<LeakyState>;

describe.each([
  ["at once", 0],
  ["late", 3],
] as const)("tokens that are read %s", (_, turns) => {
  const { backend, count, offer } = recordingBackend({ turns });
  let model: LeakyModel;
  let ofModel: number;
  beforeAll(() => {
    model = new LeakyModel(backend, vocabSize);
    ofModel = backend.memory().liveBuffers;
  });
  afterEach(() => {
    offer(true);
    expect(backend.memory().liveBuffers).toBe(ofModel);
  });
  afterAll(() => {
    model[Symbol.dispose]();
    expect(backend.memory().liveBuffers).toBe(0);
  });

  /** All that a call gives, and how often a step was replayed for it. */
  const collect = async (prompts: readonly (readonly number[])[], options: Options = {}, of = model) => {
    const before = { ...count };
    count.mostUnread = 0;
    const stream = generateBatch(of, letters, prompts, options);
    const made: unknown[] = [];
    for (;;) {
      const { done, value } = await stream.next();
      if (done === true)
        return {
          made,
          reasons: value,
          replays: count.replays - before.replays,
          captures: count.captures - before.captures,
        };
      made.push(value);
    }
  };
  /** The same with every step launched. */
  const launched = async (prompts: readonly (readonly number[])[], options: Options = {}) => {
    offer(false);
    const result = await collect(prompts, options);
    offer(true);
    expect(result.replays).toBe(0);
    return result;
  };

  test.each<[string, readonly (readonly number[])[], Options]>([
    ["greedy", [[2, 7, 1]], { temperature: 0 }],
    ["a draw", [[2, 7, 1]], { seed: 2 ** 40 + 7 }],
    ["temperature", [[4]], { temperature: 1.7, seed: 3 }],
    ["top-k", [[4, 4]], { topK: 4, seed: 4 }],
    ["top-p", [[4, 4]], { topP: 0.7, temperature: 1.2, seed: 5 }],
    ["min-p", [[1, 2, 3]], { minP: 0.2, seed: 6 }],
    ["all of them", [[1, 2, 3]], { temperature: 1.4, topK: 9, topP: 0.9, minP: 0.05, seed: 7 }],
    ["a repetition penalty", [[1, 2]], { repetitionPenalty: 1.5, temperature: 0 }],
    ["a penalty and a draw", [[1, 2], [5]], { repetitionPenalty: 1.3, temperature: 1.2, topK: 8, seed: 2 }],
    ["a batch of prompts of different lengths", [[3], [1, 4, 1, 5, 9, 2, 6], [5, 3, 5]], { temperature: 1.5, seed: 8 }],
    ["chunks of a prompt", [[1, 4, 1, 5, 9, 2, 6]], { prefillChunk: 2, seed: 9 }],
    ["one step ahead", [[2, 7, 1]], { readAhead: 1, seed: 10 }],
    ["none ahead", [[2, 7, 1]], { readAhead: 0, seed: 10 }],
  ])("%s: the same tokens, texts and log-probabilities, bit for bit", async (__, prompts, options) => {
    const want = await launched(prompts, { maxTokens: 25, ...options });
    const got = await collect(prompts, { maxTokens: 25, ...options });
    expect(got.made).toEqual(want.made);
    expect(got.reasons).toEqual(want.reasons);
    // The first token comes from the prompt, the second step is launched, the third recorded.
    expect([got.captures, got.replays]).toEqual([1, 22]);
  });

  test("rows that end, at eos and at stop strings", async () => {
    const prompts = [[3], [1, 4, 1, 5], [7, 7]];
    const free = await launched(prompts, { seed: 12, temperature: 2, maxTokens: 30 });
    const rows = prompts.map((_p, r) => free.made.map((step) => (step as { id: number }[])[r]!.id));
    const eosId = rows[0]![4]!;
    const stop = [rows[1]!.slice(8, 10), rows[2]!.slice(11, 13)].map((ids) =>
      ids.map((id) => letters.streamDecoder().push(id)).join(""),
    );
    const options = { seed: 12, temperature: 2, maxTokens: 30, eosId, stop };
    const want = await launched(prompts, options);
    expect(want.reasons.filter((reason) => reason !== "length").length).toBeGreaterThan(1);
    expect(await collect(prompts, options)).toMatchObject({ made: want.made, reasons: want.reasons });
  });

  test("short continuations: no step beyond the last token", async () => {
    for (const maxTokens of [0, 1, 2, 3, 4]) {
      const want = await launched([[2, 7]], { maxTokens, seed: 1 });
      const reads = count.reads;
      const got = await collect([[2, 7]], { maxTokens, seed: 1 });
      expect(got.made).toEqual(want.made);
      expect([got.captures, got.replays]).toEqual([Number(maxTokens > 2), Math.max(0, maxTokens - 3)]);
      expect(count.reads - reads).toBe(2 * maxTokens);
    }
  });

  test("reads ahead so far and no further, and only where that hides something", async () => {
    for (const readAhead of [0, 1, 2, 5]) {
      await collect([[2, 7]], { maxTokens: 20, readAhead });
      // Each step's tokens and log-probabilities.
      expect(count.mostUnread).toBe(turns === 0 ? 1 : 2 * (1 + readAhead));
    }
    await collect([[2, 7]], { maxTokens: 20 });
    expect(count.mostUnread).toBe(turns === 0 ? 1 : 10);
  });

  test.each<[string, { maxTokens: number; stops?: boolean; leave?: number; abort?: number }]>([
    ["the length", { maxTokens: 9 }],
    ["a stop string", { maxTokens: 40, stops: true }],
    ["leaving the loop", { maxTokens: 40, leave: 7 }],
    ["an abort", { maxTokens: 40, abort: 5 }],
  ])("a given state ends where the tokens do: by %s", async (__, { stops, leave, abort, ...options }) => {
    const seed = 21;
    const run = async (capture: boolean, stop: readonly string[]) => {
      offer(capture);
      const state = model.createState(1);
      scope(() => void model.forward([[2, 7]], { state, into: state, logits: "none" }));
      const ending = new AbortController();
      const ids: number[] = [];
      const states: number[][] = [];
      try {
        for await (const { id } of generate(model, letters, [1, 9], {
          ...options,
          stop,
          seed,
          state,
          signal: ending.signal,
        })) {
          ids.push(id);
          states.push(await state.save());
          if (ids.length === leave) break;
          if (ids.length === abort) ending.abort();
        }
      } catch (error) {
        expect(error).toMatchObject({ name: "AbortError" });
      }
      const end = await state.save();
      state[Symbol.dispose]();
      return { ids, states, end };
    };
    const text = (await run(false, [])).ids.map((id) => String.fromCharCode(97 + id)).join("");
    const stop = stops === true ? [text.slice(5, 8)] : [];
    const want = await run(false, stop);
    expect(want.ids.length).toBeGreaterThan(3);
    const before = count.replays;
    // After every token, too: a caller may look at it, or keep a copy.
    expect(await run(true, stop)).toEqual(want);
    expect(count.replays).toBeGreaterThan(before);
  });

  test("an abort rejects within one token, a break frees everything, whatever has been launched", async () => {
    const stop = new AbortController();
    let made = 0;
    const run = (async () => {
      for await (const _token of generate(model, letters, [1], { maxTokens: 50, signal: stop.signal }))
        if (++made === 6) stop.abort();
    })();
    await expect(run).rejects.toMatchObject({ name: "AbortError" });
    expect(made).toBe(6);
    for await (const _token of generate(model, letters, [1], { maxTokens: 50 })) if (++made === 12) break;
    expect(backend.memory().liveBuffers).toBe(ofModel);
  });

  test("weights that are replaced, a state that is moved: what comes is what launching gives", async () => {
    const run = async (capture: boolean, change: boolean) => {
      offer(capture);
      const state = model.createState(1);
      const ids: number[] = [];
      for await (const { id } of generate(model, letters, [1, 2], { seed: 4, maxTokens: 20, state })) {
        ids.push(id);
        if (change && ids.length === 6) {
          model.decay.dispose();
          model.decay = model.decayOf(-0.5);
        }
        if (change && ids.length === 12) {
          const fresh = model.createState(1);
          state.h.assign(fresh.h);
          fresh[Symbol.dispose]();
        }
      }
      state[Symbol.dispose]();
      model.decay.dispose();
      model.decay = model.decayOf(0.9);
      return ids;
    };
    const want = await run(false, true);
    const before = count.captures;
    expect(await run(true, true)).toEqual(want);
    expect(count.captures - before).toBe(3);
    expect(await run(false, false)).not.toEqual(want);
  });

  test("NaN in the weights: NonFiniteError, at the token where launching gives it", async () => {
    const values = (await model.decay.data()) as Float32Array;
    const run = async (capture: boolean): Promise<string> => {
      offer(capture);
      let made = 0;
      try {
        for await (const _token of generate(model, letters, [1, 2], { maxTokens: 20, readAhead: 0 }))
          if (++made === 8) write(model.decay, new Float32Array(values.length).fill(Number.NaN));
      } catch (error) {
        expect(isMambaError(error, "non-finite")).toBe(true);
        return `${made} ${(error as Error).message}`;
      } finally {
        write(model.decay, values);
      }
      return "no error";
    };
    const want = await run(false);
    expect(want).toMatch(/^8 .*token 8/);
    expect(await run(true)).toBe(want);
  });

  test("a model whose step is not fixed is never recorded", async () => {
    const growing = new LeakyModel(backend, vocabSize, { hasFixedStep: false });
    expect(await collect([[1, 2]], { maxTokens: 9 }, growing)).toMatchObject({ captures: 0, replays: 0 });
    growing[Symbol.dispose]();
  });
});

test.each([
  ["a step that gives the state new memory is recorded with a copy to where it was", true],
  ["without a kernel for that copy, it is launched every time", false],
] as const)("%s", async (_, copies) => {
  const { backend, count, offer } = recordingBackend({ turns: 1 });
  if (!copies) Object.assign(backend.fused!, { kvAppend: undefined });
  const model = new LeakyModel(backend, vocabSize, { moves: true });
  const run = async (): Promise<number[]> => {
    const ids: number[] = [];
    for await (const { id } of generate(model, letters, [1, 2], { temperature: 2, seed: 3, maxTokens: 12 }))
      ids.push(id);
    return ids;
  };
  const got = await run();
  expect(count).toMatchObject({ captures: 1, replays: copies ? 9 : 0 });
  offer(false);
  expect(await run()).toEqual(got);
  model[Symbol.dispose]();
  expect(backend.memory().liveBuffers).toBe(0);
});
