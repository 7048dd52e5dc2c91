import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { encodeBytes } from "@mamba-ts/byte-io";
import { Mamba } from "@mamba-ts/mamba";
import { BytePairs, createMambaByte } from "@mamba-ts/mambabyte";
import { Rng } from "@mamba-ts/tensor";
import { evaluate, memoryTokens } from "@mamba-ts/train";
import { expect, test } from "vitest";
import { measure, promptsOf, write } from "../src/measure.js";
import { noises, robustness, robustnessPicture } from "../src/robustness.js";
import { surprise, surprisePicture } from "../src/surprise.js";

const text = encodeBytes("the quick brown fox jumps over the lazy dog and the river. ".repeat(8));
function models() {
  const backend = createCpuBackend();
  const encoding = BytePairs.train(text, 290);
  const bytes = createMambaByte({ dModel: 8, nLayer: 1 }, { backend, seed: 1 });
  const model = Mamba.create({ dModel: 8, nLayer: 1, vocabSize: encoding.vocabSize }, { backend, seed: 2 });
  return { bytes, subwords: { model, encoding } };
}

test("surprise adds up to the cross-entropy; the picture has every letter", async () => {
  const { bytes } = models();
  const bits = await surprise(bytes, text);
  const { bitsPerByte } = await evaluate(bytes, memoryTokens(text));
  expect(bits.reduce((a, b) => a + b, 0) / (text.length - 1)).toBeCloseTo(bitsPerByte, 4);
  const picture = surprisePicture(text, bits);
  expect(picture.match(/<text/g)!.length).toBe(1 + text.filter((byte) => byte > 32).length);
});

test("measured with and without drafts on the same prompts: nothing differs beyond the margin", async () => {
  const { bytes, subwords } = models();
  const prompts = promptsOf(text, 2, 40);
  expect(prompts.every((prompt) => prompt.at(-1) === 32)).toBe(true);
  for (const toBoundary of [false, true]) {
    const drafting = { subwords: 2, minProbability: 0, beta: 1, toBoundary };
    const result = await measure(bytes, subwords, drafting, { prompts, maxTokens: 20 });
    expect(result).toMatchObject({ bytes: 40, differentBeyondMargin: 0 });
  }
  let written = "";
  const report = await write(bytes, subwords, "the ", 12, (t) => (written += t));
  expect(report.tokens).toBe(12);
  expect(written.split("[").length).toBe(written.split("]").length);
});

test("noise changes what it says, the same way every time", async () => {
  const clean = "The quick brown fox jumps over the lazy dog and runs along. ".repeat(20);
  for (const [name, apply] of Object.entries(noises)) {
    const once = apply(clean, new Rng(7));
    expect(once).toBe(apply(clean, new Rng(7)));
    expect(once === clean).toBe(name === "as it is");
  }
  expect(noises["misspelt"]!(clean, new Rng(7))).toHaveLength(clean.length);
  const { bytes, subwords } = models();
  const rows = await robustness(bytes, subwords, text);
  expect(rows.map(({ noise }) => noise)).toEqual(Object.keys(noises));
  expect(robustnessPicture(rows)).toContain("misspelt");
});
