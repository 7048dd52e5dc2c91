/** Training with activations in bf16 and everything that is kept in float32, on the backend that defines what bf16 means. */
import type { Backend } from "@mamba-ts/backend";
import { createBackend } from "@mamba-ts/backend-cpu";
import { Jamba } from "@mamba-ts/jamba";
import { Mamba } from "@mamba-ts/mamba";
import { MoEMamba } from "@mamba-ts/moe-mamba";
import { Rng, scope, valueAndGrad } from "@mamba-ts/tensor";
import { type CarriedState, constantSchedule, type LanguageModel, languageModelLoss, Trainer } from "@mamba-ts/train";
import { expect, test } from "vitest";

const config = { dModel: 16, nLayer: 2, vocabSize: 48, dState: 4 };
const rows = Array.from({ length: 2 }, (_, i) => Int32Array.from(new Rng(i + 1).integers(25, config.vocabSize)));

const moeConfig = { ...config, nExperts: 4, dExpert: 12 };
const jambaConfig = {
  dModel: 16,
  nLayer: 4,
  vocabSize: 48,
  dState: 4,
  nHeads: 4,
  nKvHeads: 2,
  dFeedForward: 24,
  nExperts: 2,
};

async function gradientsOf<S extends CarriedState>(model: LanguageModel<S>, dtype: "bf16" | undefined) {
  const parameters = model.parameters().map((p) => p.value);
  const { loss, gradients } = scope(() => {
    const run = () => ({ loss: languageModelLoss(model, { tokens: rows }, { dtype }).loss });
    const { value, gradients } = valueAndGrad(run, parameters);
    return { loss: value.loss, gradients };
  });
  const data = await Promise.all(gradients.map((g) => g.data()));
  const result = { loss: await loss.item(), data, dtypes: [loss, ...gradients].map((g) => g.dtype) };
  for (const t of [loss, ...gradients]) t.dispose();
  return result;
}

test("gradients of float32 weights are float32, and close to those of float32 throughout", async () => {
  const backend = await createBackend();
  const model = Mamba.create(config, { backend, seed: 2 });
  const wide = await gradientsOf(model, undefined);
  const mixed = await gradientsOf(model, "bf16");
  expect(new Set(mixed.dtypes)).toEqual(new Set(["float32"]));
  expect(Math.abs(mixed.loss - wide.loss)).toBeLessThan(5e-3 * wide.loss);
  // Not the same: bf16 has been in between.
  expect(mixed.loss).not.toBe(wide.loss);
  for (const [i, name] of [...model.namedParameters()].map(([n]) => n).entries()) {
    const norm = (x: ArrayLike<number>) => Math.hypot(...Array.from(x));
    const difference = Array.from(wide.data[i]!, (v, k) => v - mixed.data[i]![k]!);
    expect(norm(difference) / norm(wide.data[i]!), name).toBeLessThan(5e-2);
  }
  model.dispose();
  expect(backend.memory().liveBuffers).toBe(0);
});

test("a model learns in mixed precision, its weights and moments float32", async () => {
  const backend = await createBackend();
  const model = Mamba.create(config, { backend, seed: 3 });
  const batch = { tokens: rows };
  const data = { batch: async () => batch, bytesPerToken: 1, isContiguous: false };
  const trainer = new Trainer(model, { data, schedule: constantSchedule(2e-2), dtype: "bf16" });
  const first = (await trainer.update()).loss;
  for (let i = 0; i < 30; i++) await trainer.update();
  const last = (await trainer.update()).loss;
  expect(last).toBeLessThan(0.5 * first);
  for (const t of [...model.parameters().map((p) => p.value), ...trainer.optimizer.m, ...trainer.optimizer.v])
    expect(t.dtype).toBe("float32");
  trainer.dispose();
  model.dispose();
  expect(backend.memory().liveBuffers).toBe(0);
});

test.each([
  ["Jamba", (backend: Backend) => Jamba.create(jambaConfig, { backend, seed: 4 })],
  ["MoE-Mamba", (backend: Backend) => MoEMamba.create(moeConfig, { backend, seed: 4 })],
] as const)("%s: loss and gradients in mixed precision", async (_, create) => {
  const backend = await createBackend();
  const model = create(backend) as LanguageModel<CarriedState>;
  const wide = await gradientsOf(model, undefined);
  const mixed = await gradientsOf(model, "bf16");
  expect(new Set(mixed.dtypes)).toEqual(new Set(["float32"]));
  expect(Math.abs(mixed.loss - wide.loss)).toBeLessThan(1e-2 * wide.loss);
  expect(mixed.loss).not.toBe(wide.loss);
  model.dispose();
  expect(backend.memory().liveBuffers).toBe(0);
});
