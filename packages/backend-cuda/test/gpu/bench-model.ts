/**
 * Prefill and a training step of random weights, with the time by kernel and the memory. `node bench-model.mjs [bf16|float32] [130m|1.4b] [prefill] [train] [recompute|cheap]`
 */
import { Rng, scope, valueAndGrad, watchDispatch } from "@mamba-ts/tensor";
import { AdamW, languageModelLoss } from "@mamba-ts/train";
import { createBackend } from "../../src/index.js";
import { profile } from "./support/profile.js";
import { randomModel, shapes } from "./support/random-model.js";

const args = process.argv.slice(2);
const dtype = args.includes("bf16") ? "bf16" : "float32";
const recompute = args.includes("cheap") ? "cheap" : args.includes("recompute");
const wanted = (what: string): boolean => args.includes(what) || !(args.includes("prefill") || args.includes("train"));
const nativeFolder = process.env["MAMBA_TS_CUDA_NATIVE"];
const backend = await createBackend(nativeFolder === undefined ? {} : { nativeFolder });
const { cuda } = backend;
console.log(backend.device);
const GiB = 2 ** 30;
const length = 2048;

/** Seconds of a run, the median; and of the host's part, until all is enqueued. */
async function median(run: () => void, runs: number): Promise<{ seconds: number; host: number }> {
  const times: { seconds: number; host: number }[] = [];
  for (let i = 0; i < runs + 2; i++) {
    const start = performance.now();
    scope(run);
    const host = (performance.now() - start) / 1000;
    await backend.synchronize();
    if (i >= 2) times.push({ seconds: (performance.now() - start) / 1000, host });
  }
  times.sort((a, b) => a.seconds - b.seconds);
  return times[times.length >> 1]!;
}
const [freeBefore] = cuda.native.memInfo();
const taken = (): string =>
  `${(cuda.memory.peakBytes / GiB).toFixed(1)} GiB in use at most, ${((freeBefore - cuda.native.memInfo()[0]) / GiB).toFixed(1)} taken from the device`;

for (const name of ["130m", "1.4b"] as const) {
  cuda.memory.peakBytes = 0;
  if (!args.includes(name) && (args.includes("130m") || args.includes("1.4b"))) continue;
  const config = shapes[name];
  const rng = new Rng(1);
  const rowsOf = (batch: number): Int32Array[] =>
    Array.from({ length: batch }, () => Int32Array.from(rng.integers(length + 1, config.vocabSize)));
  if (wanted("prefill")) {
    const model = randomModel(config, backend, dtype);
    const prompt = rowsOf(8).map((row) => row.subarray(0, length));
    const run = (): void => void model.forward(prompt, { logits: "last", dtype });
    const { seconds, host } = await median(run, 5);
    console.log(
      `${name} ${dtype} prefill 8 x ${length}: ${Math.round((8 * length) / seconds)} tokens/s, ${(1000 * seconds).toFixed(1)} ms (host ${(1000 * host).toFixed(1)}), ${taken()}`,
    );
    await profile(backend, () => scope(run));
    model.dispose();
  }
  if (wanted("train")) {
    cuda.memory.peakBytes = 0;
    const batch = name === "130m" ? 8 : 4;
    const rows = rowsOf(batch);
    const model = randomModel(config, backend, "float32");
    using optimizer = new AdamW(model);
    const weights = optimizer.parameters.map((p) => p.value);
    const step = (): void => {
      const loss = () => ({ loss: languageModelLoss(model, { tokens: rows }, { dtype, recompute }).loss });
      const { gradients } = valueAndGrad(loss, weights);
      optimizer.update(gradients, 1e-4);
    };
    const composed = new Map<string, number>();
    watchDispatch(
      ({ op, direction, how }) => {
        if (how === "composed") composed.set(`${op} ${direction}`, (composed.get(`${op} ${direction}`) ?? 0) + 1);
      },
      () => scope(step),
    );
    await backend.synchronize();
    console.log(`composed: ${[...composed].map(([op, n]) => `${op} x ${n}`).join(", ") || "nothing"}`);
    const { seconds, host } = await median(step, 5);
    console.log(
      `${name} ${dtype} training step ${batch} x ${length}${recompute === false ? "" : `, recomputing ${recompute === true ? "blocks" : recompute}`}: ${Math.round((batch * length) / seconds)} tokens/s, ${(1000 * seconds).toFixed(0)} ms (host ${(1000 * host).toFixed(0)}), ${taken()}`,
    );
    await profile(backend, () => scope(step), 30);
    model.dispose();
  }
}
console.log(`${backend.memory().liveBuffers} buffers live`);
backend[Symbol.dispose]();
