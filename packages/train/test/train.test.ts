import { appendFileSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isMambaError } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { encodeBytes, memorySource } from "@mamba-ts/byte-io";
import { fileSource } from "@mamba-ts/byte-io/node";
import { openSafetensorsFile, saveSafetensors } from "@mamba-ts/checkpoint/node";
import { Mamba, type MambaState } from "@mamba-ts/mamba";
import {
  byteTokens,
  constantSchedule,
  contiguousWindows,
  cosineSchedule,
  evaluate,
  memoryTokens,
  randomWindows,
  Trainer,
  type TrainerOptions,
} from "@mamba-ts/train";
import { resumeTraining, saveTraining } from "@mamba-ts/train/node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const text = memoryTokens(
  encodeBytes("the quick brown fox jumps over the lazy dog; pack my box with five dozen liquor jugs. ".repeat(8)),
);
const folder = mkdtempSync(join(tmpdir(), "train-"));
afterAll(() => rmSync(folder, { recursive: true }));

function make(options: Partial<TrainerOptions> = {}) {
  const backend = createCpuBackend({ poison: true });
  const model = Mamba.create({ dModel: 8, nLayer: 2, vocabSize: 256, dState: 3 }, { backend, seed: 4 });
  const trainer = new Trainer<MambaState>(model, {
    data: randomWindows(text, { batch: 2, length: 12, seed: 1 }),
    schedule: cosineSchedule({ peak: 5e-3, warmup: 2, total: 20 }),
    ...options,
  });
  const close = () => {
    trainer.dispose();
    model.dispose();
    expect(backend.memory().liveBuffers).toBe(0);
  };
  return { backend, model, trainer, close };
}

async function losses(trainer: Trainer<MambaState>, steps: number): Promise<number[]> {
  const all = [];
  for (let i = 0; i < steps; i++) all.push((await trainer.update()).loss);
  return all;
}

test("one batch is learnt by heart", async () => {
  const tokens = [Int32Array.from(encodeBytes("to be or not to be, that"))];
  const { trainer, close } = make({
    data: { batch: async () => ({ tokens }), bytesPerToken: 1, isContiguous: false },
    schedule: constantSchedule(2e-2),
    optimizer: { weightDecay: 0 },
  });
  const all = await losses(trainer, 150);
  expect(all[0]).toBeGreaterThan(3);
  expect(all.at(-1)).toBeLessThan(0.05);
  close();
});

describe.each([
  ["random windows", {}],
  ["accumulated", { accumulate: 2 }],
  ["carried state", { data: contiguousWindows(text, { batch: 2, length: 12 }), carryState: true }],
  ["recomputed", { recompute: true }],
] as [string, Partial<TrainerOptions>][])("%s", (name, options) => {
  test("stopped anywhere and resumed, the losses are the same to the bit", async () => {
    const whole = make(options);
    const want = await losses(whole.trainer, 7);
    whole.close();
    for (const stop of [1, 4]) {
      const path = join(folder, `${name}-${stop}.safetensors`);
      const first = make(options);
      const got = await losses(first.trainer, stop);
      await saveTraining(path, first.trainer, "run");
      first.close();
      const second = make(options);
      await resumeTraining(path, second.trainer, "run");
      got.push(...(await losses(second.trainer, 7 - stop)));
      second.close();
      expect(got).toEqual(want);
    }
  });
});

describe("what goes wrong changes nothing", () => {
  let path: string;
  beforeAll(async () => {
    path = join(folder, "saved.safetensors");
    const { trainer, close } = make();
    await losses(trainer, 2);
    await saveTraining(path, trainer, "run");
    close();
  });

  test("NaN in the weights stops before the update", async () => {
    const { backend, model, trainer, close } = make();
    const { D } = model.backbone.layers[0]!.mixer.ssm;
    backend.write(D.value.buf, new Float32Array(D.size).fill(Number.NaN));
    const other = await model.backbone.embeddings.weight.value.data();
    await expect(trainer.update()).rejects.toSatisfy((e) => isMambaError(e, "non-finite"));
    expect(await model.backbone.embeddings.weight.value.data()).toEqual(other);
    expect(trainer.step).toBe(0);
    close();
  });

  test("another run's, a truncated, or another model's checkpoint", async () => {
    const { model, trainer, close } = make();
    const before = await model.headWeight.data();
    await expect(resumeTraining(path, trainer, "other")).rejects.toThrow(/another run/);
    const cut = join(folder, "cut.safetensors");
    await saveTraining(cut, trainer, "run");
    truncateSync(cut, 1000);
    await expect(resumeTraining(cut, trainer, "run")).rejects.toSatisfy((e) => isMambaError(e, "checkpoint"));
    expect(await model.headWeight.data()).toEqual(before);
    close();
  });

  test("a checkpoint with a tensor that the model does not have", async () => {
    const { model, trainer, close } = make();
    const before = await model.headWeight.data();
    const surplus = join(folder, "surplus.safetensors");
    const source = await openSafetensorsFile(path);
    const tensors = await Promise.all(
      source.names.map(async (name) => {
        const bytes = await source.bytes(name);
        return { ...source.info(name), name, bytes: () => bytes };
      }),
    );
    const extra = { name: "weight.extra", dtype: "U8", shape: [1], bytes: () => new Uint8Array(1) } as const;
    await saveSafetensors(surplus, [...tensors, extra], { metadata: source.metadata });
    await source.close();
    await expect(resumeTraining(surplus, trainer, "run")).rejects.toThrow(/this model has no weight\.extra/);
    expect(await model.headWeight.data()).toEqual(before);
    close();
  });

  test("an abort leaves weights and step as they were", async () => {
    const { trainer, close } = make();
    await expect(trainer.update(AbortSignal.abort())).rejects.toThrow(/abort/i);
    expect(trainer.step).toBe(0);
    close();
  });
});

describe("data", () => {
  test("empty, too short, and changed while it is read", async () => {
    for (const bytes of [0, 5])
      expect(() => randomWindows(byteTokens(memorySource(new Uint8Array(bytes))), { batch: 1, length: 8 })).toThrow(
        bytes === 0 ? /is empty/ : /fewer than/,
      );
    const path = join(folder, "grows.txt");
    writeFileSync(path, "a".repeat(100));
    const source = await fileSource(path);
    const data = randomWindows(byteTokens(source), { batch: 1, length: 8 });
    await data.batch(0);
    appendFileSync(path, "more");
    await expect(data.batch(1)).rejects.toSatisfy((e) => isMambaError(e, "data"));
    await source.close();
  });

  test("evaluation does not depend on the chunk", async () => {
    const { model, close } = make();
    const [a, b] = [
      await evaluate(model, text, { chunk: 7, limit: 50 }),
      await evaluate(model, text, { chunk: 1024, limit: 50 }),
    ];
    expect(a.loss).toBeCloseTo(b.loss, 5);
    expect(a.bitsPerByte).toBeCloseTo(a.loss / Math.LN2, 12);
    close();
  });
});

test("only matrices decay", () => {
  const { trainer, close } = make();
  const decays = Object.fromEntries(
    trainer.optimizer.names.map((n, i) => [n.replace(/.*layers\.0\./, ""), trainer.optimizer.parameters[i]!.decay]),
  );
  expect(decays).toMatchObject({
    "norm.weight": false,
    "mixer.A_log": false,
    "mixer.D": false,
    "mixer.dt_proj.bias": false,
    "mixer.in_proj.weight": true,
  });
  close();
});
