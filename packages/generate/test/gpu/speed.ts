/** Tokens a second of `generate` itself, mamba-130m's shape: `node speed.mjs webgpu|cuda [bf16|float32] [vocab]`; TOKENS for the long run, ONLY to choose by title. */
import { type GenerateOptions, generate } from "@mamba-ts/generate";
import type { MambaState } from "@mamba-ts/mamba";
import { numbers, offer, open, randomModel } from "./open.js";

const [name = "webgpu", dtype = "float32", vocab = "50280"] = process.argv.slice(2) as [
  string?,
  ("bf16" | "float32")?,
  string?,
];
const tokens = Number(process.env["TOKENS"] ?? 10_000);
const only = process.env["ONLY"] === undefined ? undefined : new RegExp(process.env["ONLY"]);
const backend = await open(name);
const { capture } = backend;
const small = process.env["SMALL"] !== undefined;
const config = small
  ? { dModel: 64, nLayer: 2, vocabSize: 256 }
  : { dModel: 768, nLayer: 24, vocabSize: Number(vocab) };
const model = randomModel(config, backend, dtype);
await backend.synchronize();
console.log(`${backend.device}; ${name}, ${dtype}, ${config.nLayer} layers, vocabulary ${config.vocabSize}`);

/** Blocks of 100 tokens: the median, and the fastest and slowest. */
async function measure(title: string, options: GenerateOptions<MambaState>, skip = 100): Promise<void> {
  if (only !== undefined && !only.test(title)) return;
  const times: number[] = [];
  const memory = new Set<string>();
  let [n, start] = [0, performance.now()];
  const first = start;
  let firstToken = 0;
  for await (const { id } of generate(model, numbers, [5, 6, 7], { dtype, ...options })) {
    if (id < 0) throw new Error("no token");
    if (++n === 1) firstToken = performance.now() - first;
    if (n < skip || n % 100 !== 0) continue;
    const now = performance.now();
    if (n > skip) times.push((now - start) / 100);
    start = now;
    memory.add(JSON.stringify(backend.memory()));
  }
  const all = performance.now() - first;
  times.sort((a, b) => a - b);
  const rate = (ms: number): string => (1000 / ms).toFixed(0);
  const median = times[times.length >> 1]!;
  console.log(
    `${title}: ${rate(median)} tokens/s (${median.toFixed(3)} ms; blocks from ${times[0]!.toFixed(3)} to ${times.at(-1)!.toFixed(3)}); ${n} tokens in ${(all / 1000).toFixed(2)} s, ${rate(all / n)} a second, the first after ${firstToken.toFixed(1)} ms; ${memory.size === 1 ? "buffers and bytes constant" : `memory VARIES: ${[...memory].slice(0, 3).join(" ")}`} ${[...memory][0]}`,
  );
}

const run = small ? 300 : Math.min(1000, tokens);
await measure("default", { temperature: 0, maxTokens: run });
await measure("default, again", { temperature: 0, maxTokens: run });
await measure(`long, a draw`, { temperature: 1, seed: 3, maxTokens: tokens });
for (const readAhead of [0, 1, 2, 8])
  await measure(`${readAhead} ahead`, { temperature: 0, maxTokens: 600, readAhead });
{
  using state = model.createState(1);
  await measure("a given state", { temperature: 0, maxTokens: 600, state });
}
await measure("top-k and top-p", { topK: 50, topP: 0.9, seed: 1, maxTokens: 600 });
offer(backend, undefined);
await measure("every step launched", { temperature: 0, maxTokens: 300 });
offer(backend, capture);
model.dispose();
console.log(`${backend.memory().liveBuffers} buffers live`);
backend[Symbol.dispose]();
process.exit(0);
