import { Mamba } from "@mamba-ts/mamba";
import { scope } from "@mamba-ts/tensor";
import { constantSchedule, memoryTokens, randomWindows, Trainer } from "@mamba-ts/train";
import { expect, test } from "vitest";
import { createBackend } from "../src/index.js";
import { operandOf, put, randomNumbers, take } from "./support.js";

/** Losses and gradient norms of a training, then logits of a prompt and of single steps: all bits of them. */
async function everything(threads: number): Promise<{ device: string; numbers: number[] }> {
  const backend = await createBackend({ threads, poison: true });
  const numbers: number[] = [];
  {
    using model = Mamba.create({ dModel: 68, nLayer: 2, vocabSize: 256 }, { backend, seed: 3 });
    const random = randomNumbers(1);
    const text = memoryTokens(Array.from({ length: 4096 }, () => Math.floor(256 * random() ** 2)));
    using trainer = new Trainer(model, {
      data: randomWindows(text, { batch: 2, length: 100, seed: 1 }),
      schedule: constantSchedule(0.003),
    });
    for (let step = 0; step < 4; step++) {
      const { loss, gradientNorm } = await trainer.update();
      numbers.push(loss, gradientNorm);
    }
    using state = model.createState(1);
    for (const tokens of [Array.from({ length: 50 }, (_, i) => i), [7], [8]]) {
      using logits = scope(() => model.forward([tokens], { state, into: state, logits: "last" }).logits!);
      numbers.push(...(await logits.data()));
    }
  }
  const { device } = backend;
  expect(backend.memory().liveBuffers).toBe(0);
  backend[Symbol.dispose]();
  return { device, numbers };
}

test("results are the same, bit for bit, for 1, 2, 4 and 16 threads", async () => {
  const one = await everything(1);
  expect(one.device).toContain("one thread");
  for (const threads of [2, 4, 16]) {
    const many = await everything(threads);
    expect(many.device).toContain(`${threads} threads`);
    expect(many.numbers).toEqual(one.numbers);
  }
});

test("thousands of jobs of many sizes, with workers that come late", async () => {
  const backend = await createBackend({ threads: 4 });
  const random = randomNumbers(2);
  for (let i = 0; i < 3000; i++) {
    const n = Math.floor(2 ** (17 * random()));
    const ones = operandOf(backend.fill([n], 1, "float32"), [n]);
    const sum = await take(backend, backend.reduce("sum", operandOf(backend.binary("add", ones, ones), [n]), 0));
    if (sum[0] !== 2 * n) expect(sum[0]).toBe(2 * n);
    backend.free(ones.buf);
  }
  backend[Symbol.dispose]();
});

test("several backends side by side, and a number of threads that cannot be", async () => {
  const backends = await Promise.all([2, 3, 1].map((threads) => createBackend({ threads })));
  const values = Array.from({ length: 50_000 }, (_, i) => i % 7);
  for (const backend of backends) {
    const x = put(backend, values, [values.length]);
    expect((await take(backend, backend.unary("neg", x)))[49_999]).toBe(-(49_999 % 7));
  }
  for (const backend of backends) backend[Symbol.dispose]();
  for (const threads of [0, 1.5, 17])
    await expect(createBackend({ threads })).rejects.toMatchObject({ code: "invalid-argument" });
});
