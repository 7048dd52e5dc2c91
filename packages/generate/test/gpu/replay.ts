/** Replayed generation = launched generation, bit for bit: `node replay.mjs webgpu|cuda [bf16|float32]` */
import { type GenerateOptions, generateBatch } from "@mamba-ts/generate";
import type { MambaState } from "@mamba-ts/mamba";
import { numbers, offer, open, randomModel } from "./open.js";

type Options = GenerateOptions<MambaState>;
const [name = "webgpu", dtype = "float32"] = process.argv.slice(2) as [string?, ("bf16" | "float32")?];
const backend = await open(name);
console.log(backend.device);
const { capture } = backend;
let [captures, replays] = [0, 0];
const counted: NonNullable<typeof capture> = (fn) => {
  captures++;
  const recorded = capture!(fn);
  return {
    replay() {
      replays++;
      recorded.replay();
    },
    [Symbol.dispose]: () => recorded[Symbol.dispose](),
  };
};
const small = { dModel: 256, nLayer: 4, vocabSize: 3000 };
const model = randomModel(small, backend, dtype);
const ofModel = JSON.stringify(backend.memory());
const prompts = Array.from({ length: 64 }, (_, r) =>
  Array.from({ length: 1 + ((5 * r) % 17) }, (_t, i) => (r * 31 + i * 7) % small.vocabSize),
);
let failed = 0;

async function run(batch: number, options: Options, leaveAt = Number.POSITIVE_INFINITY): Promise<string> {
  const made: unknown[] = [];
  for await (const tokens of generateBatch(model, numbers, prompts.slice(0, batch), { dtype, ...options })) {
    made.push(tokens);
    if (made.length === leaveAt) break;
  }
  return JSON.stringify(made);
}

const cases: readonly (readonly [string, number, Options])[] = [
  ["greedy", 1, { temperature: 0 }],
  ["a draw", 1, { seed: 2 ** 40 + 1 }],
  ["temperature", 1, { temperature: 0.7, seed: 2 }],
  ["top-k", 1, { topK: 40, seed: 3 }],
  ["top-p", 1, { topP: 0.9, seed: 4 }],
  ["min-p", 1, { minP: 0.02, seed: 5 }],
  ["all filters, 3 rows", 3, { temperature: 1.3, topK: 50, topP: 0.95, minP: 0.01, seed: 6 }],
  ["a repetition penalty, 2 rows", 2, { repetitionPenalty: 1.4, temperature: 0.9, seed: 10 }],
  ["eos and stop, 5 rows", 5, { temperature: 1.3, seed: 7, eosId: 1, stop: ["17 "] }],
  ["8 rows", 8, { temperature: 1.2, seed: 8 }],
  ["64 rows, greedy", 64, { temperature: 0 }],
  ["64 rows", 64, { seed: 9 }],
  ["nothing ahead", 1, { seed: 2, readAhead: 0 }],
  ["16 steps ahead", 1, { seed: 2, readAhead: 16 }],
];
for (const [title, batch, options] of cases) {
  const of = { maxTokens: 48, ...options };
  offer(backend, undefined);
  const want = await run(batch, of);
  offer(backend, counted);
  [captures, replays] = [0, 0];
  const got = await run(batch, of);
  const same = got === want;
  const clean = JSON.stringify(backend.memory()) === ofModel;
  if (!same || !clean) failed++;
  console.log(
    `${same && clean ? "ok" : "FAILED"} ${name} ${dtype} ${title}: ${same ? "equal" : `differs: ${firstDifference(got, want)}`}, ${captures} captures, ${replays} replays${clean ? "" : `, memory ${JSON.stringify(backend.memory())} of ${ofModel}`}`,
  );
}
// A given state, after every token and after a break.
const states: string[] = [];
for (const offered of [undefined, counted]) {
  offer(backend, offered);
  using state = model.createState(1);
  const hashes: string[] = [];
  let made = 0;
  for await (const _ of generateBatch(model, numbers, prompts.slice(3, 4), { dtype, state, seed: 3 })) {
    if (++made % 5 === 0) hashes.push(Buffer.from(await state.save()).toString("base64"));
    if (made === 23) break;
  }
  hashes.push(Buffer.from(await state.save()).toString("base64"));
  states.push(hashes.join());
}
const same = states[0] === states[1];
if (!same) failed++;
console.log(`${same ? "ok" : "FAILED"} ${name} ${dtype} a given state, after tokens and a break`);
// Leaving with steps in flight, many times over.
offer(backend, counted);
const whole = await run(2, { seed: 11, maxTokens: 30 });
for (let i = 1; i < 30; i++) {
  const part = await run(2, { seed: 11, maxTokens: 30 }, i);
  if (!whole.startsWith(part.slice(0, -1))) {
    failed++;
    console.log(`FAILED ${name} leaving at ${i}`);
  }
}
model.dispose();
console.log(`${name} ${dtype}: ${failed} failed, ${backend.memory().liveBuffers} buffers live`);
backend[Symbol.dispose]();
process.exit(failed === 0 ? 0 : 1);

function firstDifference(a: string, b: string): string {
  let i = 0;
  while (i < a.length && a[i] === b[i]) i++;
  return `${a.slice(Math.max(0, i - 60), i + 40)} for ${b.slice(Math.max(0, i - 60), i + 40)}`;
}
