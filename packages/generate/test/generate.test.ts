import { isMambaError } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { type GenerateOptions, generate, generateBatch, StopFilter, type Tokenizer } from "@mamba-ts/generate";
import { Mamba, type MambaState } from "@mamba-ts/mamba";
import { fromHost, Rng, scope } from "@mamba-ts/tensor";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";

const vocabSize = 11;
type Options = GenerateOptions<MambaState>;

/** Token i is the pair of letters i and i + 1, so that a text has borders inside which no token ends. */
const pieces = Array.from({ length: vocabSize }, (_, i) => "abcdefghijkl".slice(i, i + 2));
const letters: Tokenizer = {
  encode: (text) => Array.from(text, (letter) => letter.charCodeAt(0) - 97),
  streamDecoder: () => ({ push: (id) => pieces[id]!, flush: () => "" }),
};

const isCode = (code: Parameters<typeof isMambaError>[1]) => (error: unknown) => isMambaError(error, code);

describe.each([
  ["fused", undefined],
  ["composed", {}],
] as const)("generation, %s", (_, fused) => {
  const backend = createCpuBackend({ poison: true, ...(fused === undefined ? {} : { fused }) });
  let model: Mamba;
  let ofModel: number;

  beforeAll(() => {
    model = Mamba.create({ dModel: 8, nLayer: 2, vocabSize, dState: 3 }, { backend, seed: 5 });
    // Fresh weights hardly prefer one token to another.
    const rng = new Rng(6);
    for (const [name, p] of model.namedParameters())
      if (/embed|proj/.test(name)) p.value = fromHost(backend, rng.normal(p.size), p.shape, "float32");
    ofModel = backend.memory().liveBuffers;
  });
  afterEach(() => expect(backend.memory().liveBuffers).toBe(ofModel));
  afterAll(() => {
    model.dispose();
    expect(backend.memory().liveBuffers).toBe(0);
  });

  /** All that one call gives. */
  const collect = async (prompt: string | readonly number[], options: Options = {}) => {
    const stream = generate(model, letters, prompt, options);
    const [ids, texts, logprobs]: [number[], string[], number[]] = [[], [], []];
    for (;;) {
      const { done, value } = await stream.next();
      if (done === true) return { ids, text: texts.join(""), texts, logprobs, reason: value };
      ids.push(value.id);
      texts.push(value.text);
      logprobs.push(value.logprob);
    }
  };

  const lastLogits = async (ids: readonly number[]): Promise<number[]> => {
    const logits = scope(() => model.forward([ids], { logits: "last" }).logits!);
    const data = Array.from(await logits.data());
    logits.dispose();
    return data;
  };

  /** The most probable continuation, by reading the whole text again for every token; `adjust` changes the scores first. */
  const slowly = async (prompt: readonly number[], count: number, adjust = (x: number[], _ids: number[]) => x) => {
    const ids = [...prompt];
    const logprobs: number[] = [];
    for (let i = 0; i < count; i++) {
      const raw = await lastLogits(ids);
      const scores = adjust([...raw], ids);
      const best = scores.indexOf(Math.max(...scores));
      const top = Math.max(...scores);
      logprobs.push(scores[best]! - top - Math.log(scores.reduce((s, x) => s + Math.exp(x - top), 0)));
      ids.push(best);
    }
    return { ids: ids.slice(prompt.length), logprobs };
  };

  test("greedy = reading everything again for every token, log-probabilities included", async () => {
    const want = await slowly([2, 7, 1], 12);
    expect(new Set(want.ids).size).toBeGreaterThan(1);
    for (const prefillChunk of [1, 2, 1024]) {
      const got = await collect([2, 7, 1], { temperature: 0, maxTokens: 12, prefillChunk });
      expect(got.ids).toEqual(want.ids);
      for (const [i, l] of want.logprobs.entries()) expect(got.logprobs[i]).toBeCloseTo(l, 4);
      expect(got.reason).toBe("length");
      expect(got.text).toBe(want.ids.map((id) => pieces[id]).join(""));
    }
    expect((await collect("chb", { temperature: 0, maxTokens: 12 })).ids).toEqual(want.ids);
  });

  test("a batch of prompts of different lengths = each prompt alone", async () => {
    const prompts = [[3], [1, 4, 1, 5, 9, 2, 6], [5, 3, 5], [8, 9, 7, 9]];
    for (const prefillChunk of [2, 1024]) {
      const rows: number[][] = prompts.map(() => []);
      const options: Options = { temperature: 0, maxTokens: 9, prefillChunk };
      for await (const made of generateBatch(model, letters, prompts, options))
        for (const [r, token] of made.entries()) rows[r]!.push(token!.id);
      for (const [r, prompt] of prompts.entries())
        expect(rows[r]).toEqual((await collect(prompt, { temperature: 0, maxTokens: 9 })).ids);
    }
  });

  test("rows of a batch end by themselves", async () => {
    const prompts = [[3], [1, 4, 1, 5]];
    const alone = await Promise.all(prompts.map((p) => collect(p, { temperature: 0, maxTokens: 8 })));
    // A token that ends the first row early and comes later, or never, in the second.
    const eosId = alone[0]!.ids.find(
      (id, i) => i < 7 && alone[0]!.ids.indexOf(id) < (alone[1]!.ids.indexOf(id) + 9) % 9,
    )!;
    expect(eosId).toBeDefined();
    const stream = generateBatch(model, letters, prompts, { temperature: 0, maxTokens: 8, eosId });
    const ids: number[][] = [[], []];
    let reasons: string[] = [];
    for (;;) {
      const { done, value } = await stream.next();
      if (done === true) {
        reasons = value;
        break;
      }
      for (const [r, token] of value.entries()) if (token !== undefined) ids[r]!.push(token.id);
    }
    const until = (all: number[]): number[] => (all.includes(eosId) ? all.slice(0, all.indexOf(eosId) + 1) : all);
    expect(ids).toEqual(alone.map((row) => until(row.ids)));
    expect(reasons).toEqual(alone.map((row) => (row.ids.includes(eosId) ? "eos" : "length")));
    // The token that ends the text is no part of it.
    const ended = await collect(prompts[0]!, { temperature: 0, maxTokens: 8, eosId });
    expect(ended.text).toBe(
      ended.ids
        .slice(0, -1)
        .map((id) => pieces[id])
        .join(""),
    );
  });

  test("the seed decides, and nothing else", async () => {
    const options = { maxTokens: 20, temperature: 1.5, topP: 0.95, minP: 0.01 };
    const of = async (seed: number) => (await collect([4, 2], { ...options, seed })).ids;
    const first = await of(1);
    expect(await of(1)).toEqual(first);
    const others = await Promise.all([2, 3, 4].map(of));
    expect(others.some((ids) => ids.join() !== first.join())).toBe(true);
  });

  test("topK 1, a tiny topP and minP 1 leave nothing but the most probable token", async () => {
    const { ids } = await collect([4, 2], { temperature: 0, maxTokens: 10 });
    for (const only of [{ topK: 1 }, { topP: 1e-6 }, { minP: 1 }])
      expect((await collect([4, 2], { ...only, seed: 9, temperature: 2, maxTokens: 10 })).ids).toEqual(ids);
    // They are no no-ops: without them another token comes.
    expect((await collect([4, 2], { seed: 9, temperature: 5, maxTokens: 10 })).ids).not.toEqual(ids);
  });

  test("draws follow the model's probabilities", async () => {
    const raw = await lastLogits([6, 1]);
    const top = Math.max(...raw);
    const weights = raw.map((x) => Math.exp((x - top) / 3));
    const total = weights.reduce((a, b) => a + b);
    const [counts, rows] = [new Array<number>(vocabSize).fill(0), 2000];
    const prompts = Array.from({ length: rows }, () => [6, 1]);
    for await (const made of generateBatch(model, letters, prompts, { maxTokens: 1, temperature: 3, seed: 2 }))
      for (const token of made) counts[token!.id]!++;
    // Five standard deviations.
    for (const [id, w] of weights.entries()) {
      const p = w / total;
      expect(Math.abs(counts[id]! / rows - p)).toBeLessThan(5 * Math.sqrt((p * (1 - p)) / rows) + 1e-3);
    }
  });

  test("a stop string that spans tokens ends the text before it, and none of it is ever said", async () => {
    const free = await collect([2, 7, 1], { temperature: 0, maxTokens: 12 });
    // From inside one token to inside a later one; the first place where it occurs counts.
    const stop = free.text.slice(5, 10);
    const got = await collect([2, 7, 1], { temperature: 0, maxTokens: 12, stop: ["zz", stop] });
    expect(got.reason).toBe("stop");
    expect(got.text).toBe(free.text.slice(0, free.text.indexOf(stop)));
    expect(got.ids.length).toBe(Math.ceil((free.text.indexOf(stop) + stop.length) / 2));
    expect(free.ids.slice(0, got.ids.length)).toEqual(got.ids);
    // What was held back as a possible beginning is said after all, if the text ends another way.
    const almost = `${free.text.slice(-3)}Z`;
    const kept = await collect([2, 7, 1], { temperature: 0, maxTokens: 12, stop: [almost] });
    expect([kept.text, kept.reason]).toEqual([free.text, "length"]);
  });

  test("repetition penalty: as by hand, over prompt and continuation", async () => {
    const penalty = 1.7;
    const adjust = (scores: number[], ids: number[]): number[] => {
      for (const id of new Set(ids)) scores[id] = scores[id]! > 0 ? scores[id]! / penalty : scores[id]! * penalty;
      return scores;
    };
    const want = await slowly([2, 7, 1], 14, adjust);
    const got = await collect([2, 7, 1], { temperature: 0, maxTokens: 14, repetitionPenalty: penalty });
    expect(got.ids).toEqual(want.ids);
    expect(got.ids).not.toEqual((await collect([2, 7, 1], { temperature: 0, maxTokens: 14 })).ids);
  });

  test("a given state goes on where it was, advances, and stays the caller's", async () => {
    const whole = await collect([2, 7, 1, 9], { temperature: 0, maxTokens: 8 });
    const state = model.createState(1);
    scope(() => void model.forward([[2, 7]], { state, into: state, logits: "none" }));
    const first = await collect([1, 9], { temperature: 0, maxTokens: 5, state });
    expect(first.ids).toEqual(whole.ids.slice(0, 5));
    // The last token has been made but not read.
    const rest = await collect([first.ids.at(-1)!], { temperature: 0, maxTokens: 3, state });
    expect(rest.ids).toEqual(whole.ids.slice(5));
    state.dispose();
    // Also in a batch whose rows are padded, from a state that remembers a segment.
    const two = model.createState(2);
    const segments = [
      [6, 6],
      [8, 8],
    ];
    scope(
      () =>
        void model.forward(
          [
            [2, 7],
            [5, 5],
          ],
          { state: two, into: two, logits: "none", segments },
        ),
    );
    const ids: number[] = [];
    for await (const made of generateBatch(
      model,
      letters,
      [
        [1, 9],
        [3, 3, 3, 3],
      ],
      { temperature: 0, maxTokens: 8, state: two },
    ))
      ids.push(made[0]!.id);
    expect(ids).toEqual(whole.ids);
    two.dispose();
  });

  test("breaking out of the loop frees everything", async () => {
    for await (const made of generate(model, letters, "abc", { maxTokens: 50 })) if (made.id >= 0) break;
    for await (const _made of generateBatch(model, letters, ["abc", "a"], { maxTokens: 50 })) break;
    const never = generate(model, letters, "abc");
    await never.return("length");
    expect(backend.memory().liveBuffers).toBe(ofModel);
  });

  test("an abort ends it within one token, or while the prompt is read, and frees everything", async () => {
    const stop = new AbortController();
    let made = 0;
    const run = (async () => {
      for await (const _token of generate(model, letters, "abc", { maxTokens: 50, signal: stop.signal }))
        if (++made === 3) stop.abort();
    })();
    await expect(run).rejects.toMatchObject({ name: "AbortError" });
    expect(made).toBe(3);
    await expect(collect("abc", { signal: AbortSignal.abort() })).rejects.toMatchObject({ name: "AbortError" });
    const early = new AbortController();
    const read: number[] = [];
    const onPrefill = (done: number): void => {
      read.push(done);
      if (done === 4) early.abort();
    };
    const prompt = new Array<number>(20).fill(1);
    await expect(collect(prompt, { signal: early.signal, prefillChunk: 2, onPrefill })).rejects.toMatchObject({
      name: "AbortError",
    });
    expect(read).toEqual([2, 4]);
  });

  test.each<[string, readonly number[], Options, RegExp]>([
    ["an empty prompt", [], {}, /prompt 0 is empty/],
    ["a token out of range", [1, vocabSize], {}, new RegExp(`${vocabSize} at row 0, position 1`)],
    ["a negative token", [-1], {}, /-1 at row 0/],
    ["maxTokens", [1], { maxTokens: -1 }, /maxTokens is -1/],
    ["a fraction of a token", [1], { maxTokens: 1.5 }, /maxTokens is 1.5/],
    ["temperature", [1], { temperature: -1 }, /temperature is -1/],
    ["temperature that is no number", [1], { temperature: Number.NaN }, /temperature is NaN/],
    ["topK", [1], { topK: -1 }, /topK is -1/],
    ["topP", [1], { topP: 0 }, /topP is 0/],
    ["minP", [1], { minP: 1.1 }, /minP is 1.1/],
    ["seed", [1], { seed: 0.5 }, /seed is 0.5/],
    ["repetitionPenalty", [1], { repetitionPenalty: 0 }, /repetitionPenalty is 0/],
    ["prefillChunk", [1], { prefillChunk: 0 }, /prefillChunk is 0/],
    ["readAhead", [1], { readAhead: -1 }, /readAhead is -1/],
    ["too much readAhead", [1], { readAhead: 65 }, /readAhead is 65, not an integer from 0 to 64/],
    ["an empty stop string", [1], { stop: [""] }, /stop string is empty/],
  ])("refused with InvalidArgumentError: %s", async (__, prompt, options, message) => {
    const error = await collect(prompt, options).catch((e: unknown) => e);
    expect(error).toSatisfy(isCode("invalid-argument"));
    expect((error as Error).message).toMatch(message);
  });

  test("no prompts, and one empty among several", async () => {
    await expect(generateBatch(model, letters, []).next()).rejects.toSatisfy(isCode("invalid-argument"));
    await expect(generateBatch(model, letters, ["a", ""]).next()).rejects.toThrow(/prompt 1 is empty/);
    const fresh = model.createState(1);
    const before = await fresh.save();
    for (const wrong of [{ temperature: -1 }, { topK: 0.5 }, { topP: 0 }, { minP: 2 }, { seed: -1 }])
      await expect(generate(model, letters, "a", { ...wrong, state: fresh }).next()).rejects.toSatisfy(
        isCode("invalid-argument"),
      );
    // Nothing has been read into it.
    expect(await fresh.save()).toEqual(before);
    fresh.dispose();
    const state = model.createState(2);
    await expect(generate(model, letters, "a", { state }).next()).rejects.toSatisfy(isCode("shape"));
    state.dispose();
  });

  test("maxTokens 0 makes nothing", async () => {
    expect(await collect("a", { maxTokens: 0 })).toMatchObject({ ids: [], reason: "length" });
  });

  test("NaN or infinity in the weights: NonFiniteError, whatever the sampling", async () => {
    const { D } = model.backbone.layers[1]!.mixer.ssm;
    const values = await D.value.data();
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY])
      for (const options of [{ temperature: 0 }, { topK: 3 }, { topP: 0.5 }, { repetitionPenalty: 2 }]) {
        D.value = fromHost(backend, new Float32Array(D.size).fill(bad), D.shape, "float32");
        await expect(collect([1, 2], options)).rejects.toSatisfy(isCode("non-finite"));
      }
    D.value = fromHost(backend, values, D.shape, "float32");
  });
});

test("StopFilter: of several stops the first in the text counts; beginnings are held back and given up", () => {
  const filter = new StopFilter(["abab", "c"]);
  expect([filter.push("xab"), filter.push("a"), filter.push("ax")]).toEqual(["x", "", "abaax"]);
  expect([filter.push("ca"), filter.stopped, filter.push("more"), filter.flush()]).toEqual(["", true, "", ""]);
  const open = new StopFilter(["abab"]);
  expect([open.push("aba"), open.stopped, open.flush()]).toEqual(["", false, "aba"]);
});
