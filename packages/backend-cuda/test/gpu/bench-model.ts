/** A model of mamba-130m's shape with random weights in float32: prefill, decoding and a training step, and which ops ran composed. */
import { Mamba } from "@mamba-ts/mamba";
import { Rng, scope, valueAndGrad, watchDispatch } from "@mamba-ts/tensor";
import { AdamW, languageModelLoss } from "@mamba-ts/train";
import { createBackend } from "../../src/index.js";

const nativeFolder = process.env["MAMBA_TS_CUDA_NATIVE"];
const backend = await createBackend(nativeFolder === undefined ? {} : { nativeFolder });
console.log(backend.device);
const config = { dModel: 768, nLayer: 24, dState: 16, vocabSize: 50280 };
const model = Mamba.create(config, { backend, seed: 1 });
console.log(`${model.parameterCount} parameters, float32`);
const [batch, length] = [8, 2048];
const rng = new Rng(1);
const rows = Array.from({ length: batch }, () => Int32Array.from(rng.integers(length + 1, config.vocabSize)));

async function median(run: () => void, runs: number): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < runs + 2; i++) {
    const start = performance.now();
    scope(run);
    await backend.synchronize();
    if (i >= 2) times.push((performance.now() - start) / 1000);
  }
  times.sort((a, b) => a - b);
  return times[times.length >> 1]!;
}

{
  const prompt = rows.map((row) => row.subarray(0, length));
  const seconds = await median(() => void model.forward(prompt, { logits: "last" }), 5);
  console.log(
    `prefill ${batch} x ${length}: ${Math.round((batch * length) / seconds)} tokens/s, ${(1000 * seconds).toFixed(1)} ms`,
  );
}
for (const b of [1, 64]) {
  using state = model.createState(b);
  const one = Array.from({ length: b }, () => [65]);
  const seconds = await median(() => void model.forward(one, { state, into: state, logits: "last" }), 30);
  console.log(`decode, batch ${b}: ${Math.round(b / seconds)} tokens/s, ${(1000 * seconds).toFixed(3)} ms`);
}
{
  using optimizer = new AdamW(model);
  const weights = optimizer.parameters.map((p) => p.value);
  const step = (): void => {
    const { gradients } = valueAndGrad(() => ({ loss: languageModelLoss(model, { tokens: rows }).loss }), weights);
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
  console.log(`composed in a training step: ${[...composed].map(([op, n]) => `${op} x ${n}`).join(", ") || "nothing"}`);
  const seconds = await median(step, 5);
  console.log(
    `training step ${batch} x ${length}: ${Math.round((batch * length) / seconds)} tokens/s, ${(1000 * seconds).toFixed(0)} ms`,
  );
}
model.dispose();
console.log(`${backend.memory().liveBuffers} buffers live`);
backend[Symbol.dispose]();
