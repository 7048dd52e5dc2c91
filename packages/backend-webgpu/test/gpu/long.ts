/** What must stay constant over long work: buffers over training steps and tokens, the time of a token over what has been read. */
import type { Backend } from "@mamba-ts/backend";
import { ByteTokenizer } from "@mamba-ts/byte-io";
import { generate } from "@mamba-ts/generate";
import { Mamba } from "@mamba-ts/mamba";
import { cosineSchedule, memoryTokens, randomWindows, Trainer } from "@mamba-ts/train";
import { drawQuickly, openFused } from "./open.js";

drawQuickly();
const { gpu, backend } = await openFused();
console.log(backend.device);
const what = process.argv.slice(2);
const steps = Number(process.env["STEPS"] ?? 1000);
const tokens = Number(process.env["TOKENS"] ?? 10_000);
const small = process.env["SMALL"] !== undefined;

/** Live handles and the bytes behind them, and the buffers that the device holds, pooled ones included. */
const live = (on: Backend): string => JSON.stringify({ ...on.memory(), ...gpu.pool.use });

if (what.includes("train")) {
  const model = Mamba.create({ dModel: 128, nLayer: 2, vocabSize: 256 }, { backend, seed: 1 });
  const text = new TextEncoder().encode("She sells sea shells by the sea shore. ".repeat(100));
  {
    using trainer = new Trainer(model, {
      data: randomWindows(memoryTokens(new ByteTokenizer().encode(new TextDecoder().decode(text))), {
        batch: 8,
        length: small ? 32 : 128,
      }),
      schedule: cosineSchedule({ peak: 2e-3, total: steps, warmup: 20 }),
    });
    let before = "";
    for (let i = 1; i <= steps; i++) {
      const { bitsPerByte } = await trainer.update();
      if (i === 10) before = live(backend);
      if (i === 1 || i === 10 || i % Math.ceil(steps / 5) === 0)
        console.log(`step ${i}: ${bitsPerByte.toFixed(3)} bits per byte, ${live(backend)}`);
    }
    console.log(
      `${steps} training steps: buffers ${before === live(backend) ? "constant" : `NOT constant: ${before} then ${live(backend)}`}`,
    );
  }
  model.dispose();
  console.log(`after: ${live(backend)}`);
}
if (what.includes("generate")) {
  const model = Mamba.create({ dModel: 128, nLayer: 2, vocabSize: 256 }, { backend, seed: 1 });
  let [n, before] = [0, ""];
  for await (const _ of generate(model, new ByteTokenizer(), "The", { maxTokens: tokens, temperature: 1, seed: 3 })) {
    n++;
    if (n === 100) before = live(backend);
    if (n === 100 || n % Math.ceil(tokens / 4) === 0) console.log(`token ${n}: ${live(backend)}`);
  }
  // The loop's own state has gone by now; what counts is how it was at the last token.
  console.log(`${n} tokens, ${before}`);
  model.dispose();
  console.log(`after: ${live(backend)}`);
}
if (what.includes("flat")) {
  const model = Mamba.create(
    small ? { dModel: 64, nLayer: 2, vocabSize: 256 } : { dModel: 768, nLayer: 24, vocabSize: 50280 },
    { backend, seed: 1 },
  );
  const numbers = { encode: () => [], streamDecoder: () => ({ push: String, flush: () => "" }) };
  const prompt = Int32Array.from({ length: small ? 256 : 131_072 }, (_, i) => (i * 37) % 256);
  const block = small ? 10 : 100;
  const blocks = small ? 3 : 8;
  // One continuation after each length, a block of tokens of each in turn, so that what else the machine does falls on all of them.
  const after = (small ? [64, 256] : [1024, 16_384, 131_072]).map((length) => ({
    length,
    tokens: generate(model, numbers, prompt.subarray(0, length), { temperature: 0, maxTokens: block * (blocks + 2) }),
    times: [] as number[],
  }));
  for (let i = 0; i <= blocks; i++)
    for (const { length, tokens, times } of after) {
      const start = performance.now();
      for (let n = 0; n < block; n++) await tokens.next();
      if (i > 0) times.push((performance.now() - start) / block);
      else console.log(`read ${length}: ${live(backend)}`);
    }
  for (const { length, tokens, times } of after) {
    times.sort((a, b) => a - b);
    const at = (part: number): string => times[Math.floor(times.length * part)]!.toFixed(4);
    console.log(`after ${length} tokens: ${at(0.5)} ms a token (quartiles ${at(0.25)} ${at(0.75)}), ${live(backend)}`);
    await tokens.return("length");
  }
  model.dispose();
  console.log(`after: ${live(backend)}`);
}
backend[Symbol.dispose]();
process.exit(0);
