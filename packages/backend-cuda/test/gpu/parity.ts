/**
 * A hundred training steps whose losses parity.py compares with PyTorch's from the same weights and batches:
 * `node parity.mjs FOLDER && python3 parity.py FOLDER`.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Mamba } from "@mamba-ts/mamba";
import { Rng } from "@mamba-ts/tensor";
import { constantSchedule, Trainer } from "@mamba-ts/train";
import { createBackend } from "../../src/index.js";

const folder = process.argv[2] ?? "parity";
mkdirSync(folder, { recursive: true });
const nativeFolder = process.env["MAMBA_TS_CUDA_NATIVE"];
const backend = await createBackend(nativeFolder === undefined ? {} : { nativeFolder });
console.log(backend.device);
const config = { dModel: 256, nLayer: 4, vocabSize: 96, dState: 16 };
const [batch, length, steps, learningRate, weightDecay] = [8, 128, 100, 2e-3, 0.1];

/** A stream with something to learn: a letter and the one before it decide the next, but for one in eight. */
function tokensOf(step: number): Int32Array[] {
  const rng = new Rng(1000 + step);
  return Array.from({ length: batch }, () => {
    const [noise, letters] = [rng.uniform(length + 1), rng.integers(length + 1, config.vocabSize)];
    const row = new Int32Array(length + 1);
    for (let t = 0; t <= length; t++)
      row[t] = t < 2 || noise[t]! < 0.125 ? letters[t]! : (5 * row[t - 1]! + 3 * row[t - 2]! + 7) % config.vocabSize;
    return row;
  });
}

const batches = Array.from({ length: steps }, (_, step) => tokensOf(step));
writeFileSync(
  join(folder, "tokens.bin"),
  Buffer.from(Int32Array.from(batches.flat().flatMap((row) => [...row])).buffer),
);
const losses: { [dtype: string]: number[] } = {};
for (const dtype of ["float32", "bf16"] as const) {
  const model = Mamba.create(config, { backend, seed: 7 });
  const parameters: { name: string; shape: readonly number[]; decay: boolean }[] = [];
  const bytes: Buffer[] = [];
  for (const [name, p] of model.namedParameters()) {
    parameters.push({ name, shape: p.shape, decay: p.decay });
    bytes.push(Buffer.from((await p.value.data()).buffer));
  }
  writeFileSync(join(folder, "weights.bin"), Buffer.concat(bytes));
  writeFileSync(
    join(folder, "run.json"),
    JSON.stringify({ config: model.config, parameters, batch, length, steps, learningRate, weightDecay }),
  );
  const data = {
    batch: async (step: number) => ({ tokens: batches[step]! }),
    bytesPerToken: 1,
    isContiguous: false,
  };
  const trainer = new Trainer(model, {
    data,
    schedule: constantSchedule(learningRate),
    optimizer: { weightDecay },
    ...(dtype === "bf16" ? { dtype } : {}),
  });
  losses[dtype] = [];
  for (let step = 0; step < steps; step++) losses[dtype].push((await trainer.update()).loss);
  console.log(`${dtype}: loss ${losses[dtype][0]!.toFixed(4)} at first, ${losses[dtype].at(-1)!.toFixed(4)} at last`);
  trainer.dispose();
  model.dispose();
}
writeFileSync(join(folder, "losses.json"), JSON.stringify(losses));
backend[Symbol.dispose]();
