import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { composedOnly } from "@mamba-ts/backend-testing/cases";
import type { Mamba, MambaState } from "@mamba-ts/mamba";
import { Rng } from "@mamba-ts/tensor";
import { constantSchedule, memoryTokens, randomWindows, Trainer } from "@mamba-ts/train";
import { probesFor } from "../bounds.js";
import type { Context } from "../context.js";
import { measure, type Work } from "../harness.js";
import { expectClose } from "../inputs.js";
import { makeModel, shapeOf, trainingWork } from "../model.js";

export const [BATCH, LENGTH] = [2, 256];

/** One update of training: forward, loss, gradients, clipping, AdamW. */
export async function trainBench({ backend, device, repeats, row }: Context): Promise<void> {
  using cpu = createCpuBackend({ fused: {} });
  const [ours, theirs, exact] = [makeModel(backend), makeModel(composedOnly(backend)), makeModel(cpu, "float64")];
  const trainers = [ours, theirs, exact].map(makeTrainer);
  const [own, peer, reference] = trainers as [Trainer<MambaState>, Trainer<MambaState>, Trainer<MambaState>];
  // The second loss also depends on the first update.
  const error = expectClose("train", await losses(own), await losses(reference), 1e-4);
  const work: Work = Object.fromEntries(
    Object.entries(trainingWork(ours.config)).map(([unit, n]) => [unit, n * BATCH * LENGTH]),
  );
  row(
    await measure(device, repeats, {
      bench: "train",
      shape: `${shapeOf(ours.config)}, ${BATCH} x ${LENGTH} bytes`,
      dtype: "float32",
      subject: { name: `Trainer on ${backend.name}`, run: () => own.update().then(() => {}) },
      peers: [{ name: "composition of primitives", run: () => peer.update().then(() => {}) }],
      probes: probesFor(backend).filter(({ unit }) => unit in work),
      work,
      makes: { unit: "bytes", count: BATCH * LENGTH },
      error,
    }),
  );
  for (const trainer of trainers) trainer.dispose();
}

async function losses(trainer: Trainer<MambaState>): Promise<number[]> {
  const both: number[] = [];
  for (let i = 0; i < 2; i++) {
    const { loss, gradientNorm } = await trainer.update();
    both.push(loss, gradientNorm);
  }
  return both;
}

function makeTrainer(model: Mamba): Trainer<MambaState> {
  return new Trainer(model, { data: trainingData(), schedule: constantSchedule(1e-3) });
}

/** Random bytes: what they say does not change how long they take. */
export function trainingData() {
  const bytes = Int32Array.from(new Rng(1).integers(65_536, 256));
  return randomWindows(memoryTokens(bytes), { batch: BATCH, length: LENGTH, seed: 1 });
}
