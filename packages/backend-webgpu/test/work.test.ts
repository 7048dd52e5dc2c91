/** What training and decoding ask of the device: no op composed, few launches, no memory that grows. */
import type { Backend } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { ByteTokenizer } from "@mamba-ts/byte-io";
import { generate } from "@mamba-ts/generate";
import { Mamba, type MambaConfig } from "@mamba-ts/mamba";
import { type DispatchEvent, fill, scope, softmax, valueAndGrad, watchDispatch } from "@mamba-ts/tensor";
import { AdamW, constantSchedule, languageModelLoss, memoryTokens, randomWindows, Trainer } from "@mamba-ts/train";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { backendOn } from "../src/backend.js";
import { fusedOps } from "../src/fused/index.js";
import { Gpu } from "../src/gpu/gpu.js";
import { WebGpuMemory } from "../src/storage.js";
import { rememberDevice, warmUp } from "../src/warm-up.js";
import { adapterMissing } from "./adapter.js";
import { relativeError } from "./support.js";

describe.skipIf(adapterMissing !== undefined)("work", () => {
  let gpu: Gpu;
  let backend: Backend;
  beforeAll(async () => {
    gpu = await Gpu.open({});
    const memory = new WebGpuMemory(gpu, { poison: false });
    backend = backendOn(gpu, memory, fusedOps(memory));
    rememberDevice(backend, gpu);
  });
  afterAll(() => {
    expect(backend.memory().liveBuffers).toBe(0);
    backend[Symbol.dispose]();
  });

  const create = (config: Partial<MambaConfig>): Mamba =>
    Mamba.create({ dModel: 32, nLayer: 2, vocabSize: 256, ...config }, { backend, seed: 1 });
  /** Handles, bytes, and what the pool holds. */
  const held = (): object => ({ ...backend.memory(), ...gpu.pool.use });
  const composedIn = (run: () => void): DispatchEvent[] => {
    const events: DispatchEvent[] = [];
    watchDispatch((event) => void events.push(event), run);
    expect(events.length).toBeGreaterThan(2);
    return events.filter(({ how }) => how === "composed");
  };

  test("a token takes four launches a layer, and a few for all", () => {
    const launches = [2, 5].map((nLayer) => {
      const model = create({ nLayer });
      using state = model.createState(1);
      const before = gpu.commands.launches;
      expect(composedIn(() => scope(() => void model.forward([[65]], { state, into: state, logits: "last" })))).toEqual(
        [],
      );
      model.dispose();
      return gpu.commands.launches - before;
    });
    expect(launches[1]! - launches[0]!).toBe(3 * 4);
    expect(launches[0]! - 2 * 4).toBeLessThanOrEqual(6);
  });

  test.each([
    ["as it is", {}],
    ["with every bias", { bias: true, convBias: true }],
  ])("with WebGPU's default limits too: a Mamba %s", async (_, config) => {
    const least = await Gpu.open({ minimal: true });
    expect(least.maxBindings).toBe(8);
    const memory = new WebGpuMemory(least, { poison: false });
    const limited = backendOn(least, memory, fusedOps(memory));
    const results: Float32Array[] = [];
    for (const on of [backend, limited]) {
      const launches: number[] = [];
      for (const nLayer of [2, 3]) {
        const sizes = { dModel: 32, nLayer, vocabSize: 256, ...config };
        const model = Mamba.create(sizes, { backend: on, seed: 1 });
        using state = model.createState(1);
        const step = (id: number) => model.forward([[id]], { state, into: state, logits: "last" });
        scope(() => void step(65));
        const before = least.commands.launches;
        const { logits } = scope(() => {
          let made: ReturnType<typeof step> | undefined;
          expect(composedIn(() => (made = step(66)))).toEqual([]);
          return { logits: made!.logits! };
        });
        launches.push(least.commands.launches - before);
        if (nLayer === 2) results.push(Float32Array.from(await logits.data()));
        logits.dispose();
        model.dispose();
      }
      if (on === limited) expect(launches[1]! - launches[0]!).toBe(4);
    }
    expect(relativeError(results[1]!, results[0]!)).toBeLessThan(1e-5);
    expect(limited.memory().liveBuffers).toBe(0);
    limited[Symbol.dispose]();
  });

  test("what is compiled ahead is not compiled when it is needed, and changes nothing", async () => {
    const cold = await Gpu.open({});
    const memory = new WebGpuMemory(cold, { poison: false });
    const fresh = backendOn(cold, memory, fusedOps(memory));
    rememberDevice(fresh, cold);
    const model = Mamba.create({ dModel: 24, nLayer: 1, vocabSize: 256 }, { backend: fresh, seed: 1 });
    const state = model.createState(1);
    const work = () => ({ logits: model.forward([[65, 66, 67]], { state, into: state, logits: "last" }).logits! });
    const before = state.bytes;
    const seen: [done: number, total: number][] = [];
    const onProgress = ({ done, total }: { done: number; total: number }) => void seen.push([done, total]);
    const launches = cold.commands.launches;
    const total = await warmUp(fresh, () => scope(() => void work()), { onProgress });
    expect(total).toBeGreaterThan(5);
    expect(seen).toEqual(Array.from({ length: total + 1 }, (_, i) => [i, total]));
    expect([state.bytes, cold.commands.launches]).toEqual([before, launches]);
    const compile = vi.spyOn(cold.device, "createComputePipeline");
    const { logits } = scope(work);
    expect(compile).not.toHaveBeenCalled();
    expect(await warmUp(fresh, () => scope(() => void work()))).toBe(0);
    // Bit for bit what a device gives that compiled when it had to.
    const same = Mamba.create({ dModel: 24, nLayer: 1, vocabSize: 256 }, { backend, seed: 1 });
    const other = scope(() => ({ logits: same.forward([[65, 66, 67]], { logits: "last" }).logits! }));
    expect(Array.from(await logits.data())).toEqual(Array.from(await other.logits.data()));
    for (const made of [logits, other.logits, same, model]) made.dispose();
    state[Symbol.dispose]();
    expect(fresh.memory().liveBuffers).toBe(0);
    fresh[Symbol.dispose]();
  });

  test("compiling ahead can be aborted, and is of this backend alone", async () => {
    const reason = new Error("enough");
    const work = () => void scope(() => void softmax(fill(backend, [3, 70], 1), 1));
    await expect(warmUp(backend, work, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const stop = new AbortController();
    const aborting = warmUp(backend, work, { signal: stop.signal, onProgress: () => stop.abort(reason) });
    await expect(aborting).rejects.toBe(reason);
    await expect(warmUp(createCpuBackend(), () => {})).rejects.toMatchObject({ code: "invalid-argument" });
  });

  test("of a training step no op is composed", () => {
    const model = create({});
    {
      using optimizer = new AdamW(model);
      const tokens = [0, 1].map((row) => Int32Array.from({ length: 33 }, (_, i) => (i * 7 + row) % 256));
      const weights = optimizer.parameters.map((p) => p.value);
      const step = (): void => {
        const { gradients } = valueAndGrad(() => ({ loss: languageModelLoss(model, { tokens }).loss }), weights);
        optimizer.update(gradients, 1e-3);
      };
      expect(composedIn(() => scope(step))).toEqual([]);
    }
    model.dispose();
  });

  test("training steps hold the same memory time after time", async () => {
    const model = create({});
    const bytes = new ByteTokenizer().encode("She sells sea shells by the sea shore. ".repeat(20));
    {
      using trainer = new Trainer(model, {
        data: randomWindows(memoryTokens(bytes), { batch: 2, length: 24 }),
        schedule: constantSchedule(1e-3),
      });
      const memory: object[] = [];
      for (let step = 0; step < 12; step++) {
        await trainer.update();
        if (step >= 4) memory.push(held());
      }
      expect(new Set(memory.map((use) => JSON.stringify(use))).size).toBe(1);
    }
    model.dispose();
  });

  test("generated tokens hold the same memory, one after the other", async () => {
    const model = create({});
    const memory: object[] = [];
    for await (const { id } of generate(model, new ByteTokenizer(), "The", {
      maxTokens: 30,
      temperature: 1,
      seed: 3,
    })) {
      expect(id).toBeLessThan(256);
      if (memory.push(held()) > 30) break;
    }
    expect(new Set(memory.slice(5).map((use) => JSON.stringify(use))).size).toBe(1);
    model.dispose();
  });
});
