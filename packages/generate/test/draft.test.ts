import { createCpuBackend } from "@mamba-ts/backend-cpu";
import {
  type Drafter,
  type DraftOptions,
  type DraftReport,
  generate,
  generateWithDrafts,
  type Tokenizer,
} from "@mamba-ts/generate";
import { Mamba } from "@mamba-ts/mamba";
import { fromHost, Rng } from "@mamba-ts/tensor";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";

const vocabSize = 11;
const tokenizer: Tokenizer = {
  encode: (text) => Array.from(text, (letter) => letter.charCodeAt(0) - 97),
  streamDecoder: () => ({ push: (id) => String.fromCharCode(97 + id), flush: () => "" }),
};

describe("speculative decoding", () => {
  const backend = createCpuBackend({ poison: true });
  let model: Mamba;
  let resting: number;
  beforeAll(() => {
    model = Mamba.create({ dModel: 8, nLayer: 2, vocabSize, dState: 3 }, { backend, seed: 5 });
    const rng = new Rng(6);
    for (const [name, p] of model.namedParameters())
      if (/embed|proj/.test(name)) p.value = fromHost(backend, rng.normal(p.size), p.shape, "float32");
    resting = backend.memory().liveBuffers;
  });
  afterEach(() => expect(backend.memory().liveBuffers).toBe(resting));
  afterAll(() => model.dispose());

  const plain = async (prompt: number[], maxTokens: number) => {
    const all = [];
    for await (const token of generate(model, tokenizer, prompt, { temperature: 0, maxTokens })) all.push(token);
    return all;
  };
  const drafted = async (drafter: Drafter, prompt: number[], options: DraftOptions) => {
    const stream = generateWithDrafts(model, tokenizer, drafter, prompt, options);
    const all = [];
    for (;;) {
      const { done, value } = await stream.next();
      if (done === true) return { all, report: value as DraftReport };
      all.push(value);
    }
  };
  /** Knows the answer, and errs where `wrong` says so. */
  const oracle = (
    answer: readonly number[],
    size: number,
    wrong: (at: number) => boolean,
    prompt: number,
  ): Drafter & { seen: number[] } => {
    const seen: number[] = [];
    return {
      seen,
      draft: async (fresh) => {
        seen.push(...fresh);
        const at = seen.length - prompt;
        return answer.slice(at, at + size).map((id, i) => (wrong(at + i) ? (id + 1) % vocabSize : id));
      },
    };
  };

  test.each([
    ["never wrong", () => false],
    ["always wrong", () => true],
    ["wrong now and then", (at: number) => at % 7 === 3],
    ["wrong at first", (at: number) => at < 9],
  ])("greedy, a drafter %s: the tokens and log-probabilities of plain decoding", async (_, wrong) => {
    for (const prompt of [[1], [4, 0, 9, 2]])
      for (const size of [1, 4, 90]) {
        const want = await plain(prompt, 80);
        const ids = want.map(({ id }) => id);
        expect(new Set(ids).size).toBeGreaterThan(1);
        for (const isBoundary of [undefined, (id: number) => id % 3 === 0]) {
          const drafter = oracle(ids, size, wrong, prompt.length);
          const { all, report } = await drafted(drafter, prompt, {
            maxTokens: 80,
            maxAlone: 5,
            prefillChunk: 2,
            ...(isBoundary === undefined ? {} : { isBoundary }),
          });
          expect(all.map(({ id }) => id)).toEqual(ids);
          for (const [i, { logprob }] of all.entries()) expect(logprob).toBeCloseTo(want[i]!.logprob, 4);
          expect(all.map(({ text }) => text).join("")).toBe(want.map(({ text }) => text).join(""));
          expect(report).toMatchObject({ reason: "length", tokens: 80 });
          expect(report.accepted).toBe(all.filter((t) => t.drafted).length);
          // What the drafter was told is the text so far, in order.
          expect(drafter.seen).toEqual([...prompt, ...ids].slice(0, drafter.seen.length));
          if (_ === "never wrong" && isBoundary === undefined) {
            expect(report.accepted).toBe(report.drafted);
            expect(report.passes).toBe(Math.ceil(80 / (size + 1)));
          }
        }
      }
  });

  test("beta: what is among the most probable is kept", async () => {
    const { all, report } = await drafted({ draft: async () => [3, 5] }, [1, 2], { maxTokens: 40, beta: vocabSize });
    expect(report.accepted).toBe(report.drafted);
    expect(all.filter((t) => t.drafted).every(({ id }, i) => id === (i % 2 === 0 ? 3 : 5))).toBe(true);
    const strict = await drafted({ draft: async () => [3, 5] }, [1, 2], { maxTokens: 40, beta: 2 });
    expect(strict.report.accepted).toBeLessThan(strict.report.drafted);
  });

  test("stops at the end token and at stop strings, frees everything when left, aborts", async () => {
    const ids = (await plain([2], 30)).map(({ id }) => id);
    const eosId = ids[5]!;
    const first = ids.indexOf(eosId);
    const ended = await drafted(
      oracle(ids, 4, () => false, 1),
      [2],
      { maxTokens: 30, eosId },
    );
    expect(ended.report.reason).toBe("eos");
    expect(ended.all.map(({ id }) => id)).toEqual(ids.slice(0, first + 1));
    const text = ids.map((id) => String.fromCharCode(97 + id)).join("");
    const stopped = await drafted(
      oracle(ids, 4, () => false, 1),
      [2],
      { maxTokens: 30, stop: [text.slice(6, 9)] },
    );
    expect(stopped.report.reason).toBe("stop");
    expect(stopped.all.map((t) => t.text).join("")).toBe(text.slice(0, text.indexOf(text.slice(6, 9))));
    for await (const _ of generateWithDrafts(
      model,
      tokenizer,
      oracle(ids, 3, () => false, 1),
      [2],
    ))
      break;
    const controller = new AbortController();
    const run = drafted(
      {
        draft: async () => {
          controller.abort();
          return [1];
        },
      },
      [2],
      { signal: controller.signal },
    );
    await expect(run).rejects.toThrow(/abort/i);
  });

  test("options that make no sense are refused", async () => {
    for (const wrong of [{ beta: 0 }, { maxTokens: -1 }, { maxAlone: 0 }])
      await expect(drafted({ draft: async () => [] }, [1], wrong)).rejects.toMatchObject({ code: "invalid-argument" });
    await expect(drafted({ draft: async () => [] }, [], {})).rejects.toMatchObject({ code: "invalid-argument" });
  });
});
