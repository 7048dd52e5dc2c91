import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { ByteTokenizer, encodeBytes } from "@mamba-ts/byte-io";
import { encodeSafetensors, memoryReader, openSafetensors, type TensorToWrite } from "@mamba-ts/checkpoint";
import { generate, generateWithDrafts } from "@mamba-ts/generate";
import { Mamba } from "@mamba-ts/mamba";
import { mambaTensors, toStateSpacesConfig } from "@mamba-ts/mamba/load";
import {
  BytePairs,
  countWords,
  createMambaByte,
  isWordBoundary,
  mambaByteConfig,
  SubwordDrafter,
  wordPerplexity,
} from "@mamba-ts/mambabyte";
import { loadMambaByteFrom } from "@mamba-ts/mambabyte/load";
import { scope } from "@mamba-ts/tensor";
import { constantSchedule, memoryTokens, randomWindows, Trainer } from "@mamba-ts/train";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

const text =
  "the quick brown fox jumps over the lazy dog.\nthe lazy dog sleeps; the quick fox runs over the hill and over the river.\n".repeat(
    6,
  );

test.each([
  // 2 * 256 * 1024 + 53 * 6_661_120 + 2048, as the paper's name says.
  ["353M", 353_945_600],
  ["972M", 972_600_000],
  ["1.6B", 1_601_000_000],
] as const)("parameters of %s, from the configuration alone", (size, published) => {
  const { parameterCount } = new Mamba(mambaByteConfig(size));
  if (size === "353M") expect(parameterCount).toBe(published);
  expect(Math.abs(parameterCount / published - 1)).toBeLessThan(0.01);
});

test("the published models' choices, and what may differ", () => {
  expect(mambaByteConfig("353M")).toMatchObject({ vocabSize: 256, norm: "layer", tieEmbeddings: false });
  expect(mambaByteConfig({ dModel: 8, nLayer: 1, norm: "rms" })).toMatchObject({ vocabSize: 256, norm: "rms" });
  expect(() => mambaByteConfig("7B" as never)).toThrow(expect.objectContaining({ code: "config" }));
});

test("perplexity per word; words by whitespace", () => {
  expect(countWords(encodeBytes("  one two\n\tthree  "))).toBe(3);
  expect(countWords(encodeBytes(""))).toBe(0);
  // The paper's check: 0.5901387 nats per byte on PG19's test set of 41,289,101 bytes and 6,965,511 words is 33.0.
  expect(wordPerplexity(0.5901387, 41_289_101, 6_965_511)).toBeCloseTo(33.0, 0);
  expect(() => wordPerplexity(1, 10, 0)).toThrow(expect.objectContaining({ code: "invalid-argument" }));
});

test("one batch is learnt by heart", async () => {
  const backend = createCpuBackend();
  const model = createMambaByte(mambaByteConfig({ dModel: 16, nLayer: 2, dState: 4 }), { backend, seed: 5 });
  const tokens = ["bytes by heart", "heart of bytes"].map((line) => Int32Array.from(encodeBytes(line)));
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
  expect(backend.memory().liveBuffers).toBe(0);
});

describe("byte pairs", () => {
  const encoding = BytePairs.train(encodeBytes(text), 320);

  test("every text comes back, byte for byte", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 90 }), (bytes) => {
        expect(encoding.decodeToBytes(encoding.encode(bytes))).toEqual(Uint8Array.from(bytes));
      }),
    );
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (s) => {
        expect(encoding.decode(encoding.encode(s))).toBe(s);
      }),
    );
  });

  test("common words are one token; a cut at a boundary changes no encoding", () => {
    expect(encoding.encode("the ")).toHaveLength(1);
    expect(encoding.encode(text).length).toBeLessThan(text.length / 2.5);
    fc.assert(
      fc.property(fc.nat(text.length - 1), (at) => {
        if (!isWordBoundary(text.charCodeAt(at))) return;
        const [a, b] = [text.slice(0, at + 1), text.slice(at + 1)];
        expect([...encoding.encode(a), ...encoding.encode(b)]).toEqual([...encoding.encode(text)]);
      }),
    );
  });

  test("merges are by count: what plain counting gives", () => {
    const slow: [number, number][] = [];
    let words = Array.from("ab ab abc bc bc bc ".match(/\S* /g)!, (w) => Array.from(w, (c) => c.charCodeAt(0)));
    for (;;) {
      const counts = new Map<number, number>();
      for (const w of words)
        for (let i = 1; i < w.length; i++)
          counts.set(w[i - 1]! * 65536 + w[i]!, (counts.get(w[i - 1]! * 65536 + w[i]!) ?? 0) + 1);
      const [best] = [...counts].filter(([, n]) => n > 1).sort((x, y) => y[1] - x[1] || x[0] - y[0]);
      if (best === undefined) break;
      const [a, b] = [Math.floor(best[0] / 65536), best[0] % 65536];
      words = words.map((w) => {
        const out: number[] = [];
        for (let i = 0; i < w.length; i++) {
          const isPair = w[i] === a && w[i + 1] === b;
          out.push(isPair ? 256 + slow.length : w[i]!);
          if (isPair) i++;
        }
        return out;
      });
      slow.push([a, b]);
    }
    expect(BytePairs.train(encodeBytes("ab ab abc bc bc bc "), 400).merges).toEqual(slow);
  });

  test("the tokens that begin with some bytes are those that do", () => {
    const all = Array.from({ length: encoding.vocabSize }, (_, id) => id);
    for (const beginning of ["", "t", "th", "the ", "the l", "zq"]) {
      const bytes = encodeBytes(beginning);
      const want = all.filter((id) => bytes.every((byte, i) => encoding.bytesOf(id)[i] === byte));
      expect(Array.from(encoding.beginningWith(bytes)).sort((a, b) => a - b)).toEqual(want);
    }
    expect([...encoding.beginningWith([255])]).toEqual([255]);
  });

  test("a text that ends within a word: whole words as ever, then bytes that a token begins with", () => {
    fc.assert(
      fc.property(fc.nat(text.length), fc.uint8Array({ maxLength: 9 }), (at, odd) => {
        for (const bytes of [
          encodeBytes(text.slice(0, at)),
          Uint8Array.of(...encodeBytes(text.slice(0, at)), ...odd),
        ]) {
          const { subwords, rest } = encoding.encodeOpen(bytes);
          expect([...encoding.decodeToBytes(subwords), ...rest]).toEqual([...bytes]);
          expect(rest.some(isWordBoundary)).toBe(false);
          expect(encoding.beginningWith(rest).length).toBeGreaterThan(0);
          const whole = encoding.encode(bytes.subarray(0, bytes.findLastIndex(isWordBoundary) + 1));
          expect(subwords.slice(0, whole.length)).toEqual([...whole]);
        }
      }),
    );
  });

  test("saved and read back; damage is refused", () => {
    const again = BytePairs.from(JSON.parse(JSON.stringify(encoding)));
    expect([...again.encode(text)]).toEqual([...encoding.encode(text)]);
    for (const wrong of [
      null,
      {},
      { format: "mamba-ts.byte-pairs.1", merges: [[1]] },
      { format: "mamba-ts.byte-pairs.1", merges: [[1, 300]] },
    ])
      expect(() => BytePairs.from(wrong)).toThrow(expect.objectContaining({ code: "checkpoint" }));
    expect(() => BytePairs.train(encodeBytes(text), 100)).toThrow(
      expect.objectContaining({ code: "invalid-argument" }),
    );
    expect(() => encoding.bytesOf(9999)).toThrow(expect.objectContaining({ code: "invalid-argument" }));
  });
});

describe("drafting by subwords", () => {
  test("after a little training: the bytes of plain greedy decoding, many of them drafted; nothing leaks", async () => {
    const backend = createCpuBackend({ poison: true });
    const encoding = BytePairs.train(encodeBytes(text), 300);
    const bytes = createMambaByte({ dModel: 16, nLayer: 1, dState: 4 }, { backend, seed: 1 });
    const subwords = Mamba.create(
      { dModel: 16, nLayer: 1, dState: 4, vocabSize: encoding.vocabSize },
      { backend, seed: 2 },
    );
    for (const [model, ids, steps] of [
      [bytes, encodeBytes(text), 150],
      [subwords, encoding.encode(text), 150],
    ] as const) {
      const data = randomWindows(memoryTokens(ids), { batch: 4, length: 40, seed: 3 });
      const trainer = new Trainer(model, { data, schedule: constantSchedule(1e-2) });
      for (let i = 0; i < steps; i++) await trainer.update();
      trainer.dispose();
    }
    const resting = backend.memory().liveBuffers;
    const tokenizer = new ByteTokenizer();
    const want: number[] = [];
    for await (const { id } of generate(bytes, tokenizer, "the quick ", { temperature: 0, maxTokens: 120 }))
      want.push(id);
    // In the middle of words as the paper's does at their ends; of any length, or ended where the drafter is not sure.
    for (const [isBoundary, minProbability, passes] of [
      [isWordBoundary, 0, 60],
      [undefined, 0, 60],
      [undefined, 0.3, 60],
      [undefined, 0.999, 121],
    ] as const) {
      const drafter = new SubwordDrafter(subwords, encoding, { minProbability });
      const stream = generateWithDrafts(bytes, tokenizer, drafter, "the quick ", {
        maxTokens: 120,
        ...(isBoundary === undefined ? {} : { isBoundary }),
      });
      const got: number[] = [];
      for (;;) {
        const { done, value } = await stream.next();
        if (done === true) {
          if (minProbability < 0.9) expect(value.accepted).toBeGreaterThan(60);
          if (minProbability > 0.9) expect(value.accepted / value.drafted).toBeGreaterThan(0.9);
          expect(value.passes).toBeLessThan(passes);
          break;
        }
        got.push(value.id);
      }
      expect(got).toEqual(want);
      drafter.dispose();
    }
    expect(backend.memory().liveBuffers).toBe(resting);
    bytes.dispose();
    subwords.dispose();
    expect(backend.memory().liveBuffers).toBe(0);
  });

  test("a vocabulary that does not fit and options out of range are refused", () => {
    const backend = createCpuBackend();
    const model = Mamba.create({ dModel: 8, nLayer: 1, vocabSize: 256 }, { backend });
    const refused = (make: () => unknown) =>
      expect(make).toThrow(expect.objectContaining({ code: "invalid-argument" }));
    refused(() => new SubwordDrafter(model, BytePairs.train(encodeBytes(text), 300)));
    for (const options of [{ subwords: 0 }, { minProbability: 1 }, { minProbability: Number.NaN }])
      refused(() => new SubwordDrafter(model, new BytePairs([]), options));
  });
});

describe("checkpoints", () => {
  const backend = createCpuBackend();
  const rows = [[104, 105, 33]];
  const logits = async (model: Mamba) => {
    const t = scope(() => model.forward(rows).logits!);
    return t.data();
  };
  const reopened = async (tensors: TensorToWrite[]) =>
    openSafetensors(memoryReader(await encodeSafetensors(tensors, {}), "test"));
  const toRepository = (name: string): string =>
    name
      .replace("backbone.embeddings", "token_embedding")
      .replace("backbone.layers", "layers")
      .replace("backbone.norm_f", "final_norm");

  test.each([
    ["layer norm, the repository's names", { norm: "layer" as const }, toRepository],
    ["RMS norm, transformers' names", { norm: "rms" as const }, (n: string) => n],
    [
      "layer norm, state-spaces' names",
      { norm: "layer" as const },
      (n: string) => n.replace("backbone.embeddings", "backbone.embedding"),
    ],
  ])("%s, detected from the file", async (_, extra, rename) => {
    const model = createMambaByte({ dModel: 8, nLayer: 2, dState: 3, ...extra }, { backend, seed: 4 });
    const source = await reopened(mambaTensors(model).map((t) => ({ ...t, name: rename(t.name) })));
    // As published: the configuration says nothing of norms or tying.
    const {
      rms_norm: __,
      tie_embeddings: ___,
      ...config
    } = toStateSpacesConfig(model.config) as { [key: string]: unknown };
    const loaded = await loadMambaByteFrom(config, source, { backend });
    expect(loaded.config).toMatchObject({ norm: extra.norm, tieEmbeddings: false });
    expect(await logits(loaded)).toEqual(await logits(model));
  });

  test("a head equal to the embedding is tied; another vocabulary is no MambaByte", async () => {
    const model = Mamba.create({ dModel: 8, nLayer: 1, vocabSize: 256 }, { backend, seed: 4 });
    const tensors = mambaTensors(model);
    const source = await reopened([
      ...tensors,
      { ...tensors.find((t) => t.name.includes("embeddings"))!, name: "lm_head.weight" },
    ]);
    const loaded = await loadMambaByteFrom(toStateSpacesConfig(model.config), source, { backend });
    expect(loaded.config.tieEmbeddings).toBe(true);
    const other = Mamba.create({ dModel: 8, nLayer: 1, vocabSize: 300 }, { backend });
    await expect(
      loadMambaByteFrom(toStateSpacesConfig(other.config), await reopened(mambaTensors(other)), { backend }),
    ).rejects.toMatchObject({ code: "config" });
  });
});
