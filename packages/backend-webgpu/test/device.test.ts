/** What is particular to this backend's memory, queue, errors and capture. */
import type { Backend } from "@mamba-ts/backend";
import { createBackend, listAdapters } from "@mamba-ts/backend-webgpu";
import * as t from "@mamba-ts/tensor";
import { capture } from "@mamba-ts/tensor/capture";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Gpu } from "../src/gpu/gpu.js";
import { WebGpuMemory } from "../src/storage.js";
import { adapterMissing } from "./adapter.js";

const code = (name: string) => expect.objectContaining({ code: name });

describe.skipIf(adapterMissing !== undefined)("device", () => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await createBackend();
  });
  afterAll(() => {
    expect(backend.memory()).toEqual({ liveBuffers: 0, liveBytes: 0 });
    backend[Symbol.dispose]();
  });
  const floats = async (t0: t.Tensor): Promise<number[]> => Array.from(await t0.data());

  test("every adapter that can be asked for is listed, the chosen one among them", async () => {
    const found = await listAdapters();
    expect(found.filter(({ isChosen }) => isChosen)).toMatchObject([
      { name: backend.device, preferences: expect.arrayContaining(["high-performance"]) },
    ]);
    for (const { limits, features, preferences } of found) {
      expect(limits["maxStorageBuffersPerShaderStage"]).toBeGreaterThanOrEqual(8);
      expect(features).toContain("core-features-and-limits");
      const other = await createBackend({ powerPreference: preferences[0]! });
      expect(found.map(({ name }) => name)).toContain(other.device);
      other[Symbol.dispose]();
    }
  });

  test("a host write waits for what was enqueued before it, and not for what comes after", async () => {
    const x = t.tensor(backend, [1, 2, 3]);
    const before = t.mul(x, 10);
    t.write(x, Float32Array.of(4, 5, 6));
    const after = t.mul(x, 10);
    expect([await floats(before), await floats(after)]).toEqual([
      [10, 20, 30],
      [40, 50, 60],
    ]);
    for (const made of [x, before, after]) made.dispose();
  });

  test("memory that is freed is used again, and what was enqueued on it stays right", async () => {
    const kept: t.Tensor[] = [];
    for (let i = 0; i < 50; i++) {
      const x = t.fill(backend, [1000], i);
      kept.push(t.add(x, 1));
      x.dispose();
      const upload = t.tensor(backend, new Float32Array(1000).fill(-1));
      upload.dispose();
    }
    const sums = await Promise.all(kept.map(async (x) => (await x.data())[999]));
    for (const x of kept) x.dispose();
    expect(sums).toEqual(Array.from({ length: 50 }, (_, i) => i + 1));
  });

  test("parts of buffers, of every width", async () => {
    const words = backend.upload(Uint16Array.of(1, 2, 3, 4, 5), "f16");
    backend.write(words, Uint16Array.of(9), 1);
    backend.write(words, Uint16Array.of(7, 8), 3);
    expect([...new Uint16Array(await backend.read(words))]).toEqual([1, 9, 3, 7, 8]);
    expect([...new Uint16Array(await backend.read(words, 1, 3))]).toEqual([9, 3, 7]);
    backend.free(words);
    const blocks = Uint8Array.from({ length: 34 * 3 }, (_, i) => (i % 34 === 1 ? 0x3c : (i * 37) % 256));
    const q8 = backend.upload(blocks, "q8_0");
    expect([...new Uint8Array(await backend.read(q8))]).toEqual([...blocks]);
    backend.write(q8, blocks.subarray(0, 34), 32);
    expect([...new Uint8Array(await backend.read(q8, 32, 64))]).toEqual([
      ...blocks.subarray(0, 34),
      ...blocks.subarray(68),
    ]);
    backend.free(q8);
    const none = backend.alloc(0, "float32");
    expect((await backend.read(none)).byteLength).toBe(0);
    backend.free(none);
  });

  test("what cannot be is refused by a typed error", async () => {
    const other = await createBackend();
    const foreign = other.fill([2], 1, "float32");
    expect(() => backend.free(foreign)).toThrow(code("backend-mismatch"));
    other[Symbol.dispose]();
    expect(() => other.fill([2], 1, "float32")).toThrow(code("disposed"));
    await expect(other.read(foreign)).rejects.toEqual(code("disposed"));
    other.free(foreign);
    expect(other.memory().liveBuffers).toBe(0);
    expect(() => backend.alloc(2, "float64")).toThrow(code("dtype"));
    expect(() => backend.alloc(-1, "float32")).toThrow(code("invalid-argument"));
    expect(() => backend.alloc(33, "q8_0")).toThrow(code("invalid-argument"));
    expect(() => backend.alloc(2 ** 40, "float32")).toThrow(code("out-of-memory"));
    const buf = backend.fill([2], 1, "float32");
    expect(() => backend.write(buf, new Float32Array(2), 1)).toThrow(code("invalid-argument"));
    await expect(backend.read(buf, 1, 2)).rejects.toEqual(code("invalid-argument"));
    backend.free(buf);
    expect(() => backend.free(buf)).toThrow(code("disposed"));
  });

  test("two backends, of which one is disposed", async () => {
    const other = await createBackend();
    const [x, y] = [t.tensor(backend, [1, 2]), t.tensor(other, [3, 4])];
    const [u, v] = [t.add(x, 1), t.add(y, 1)];
    expect(await floats(v)).toEqual([4, 5]);
    for (const made of [y, v]) made.dispose();
    other[Symbol.dispose]();
    expect(await floats(u)).toEqual([2, 3]);
    for (const made of [x, u]) made.dispose();
  });

  test("a capture gives what running gives, bit for bit, again and again", async () => {
    const weight = t.tensor(backend, new t.Rng(2).normal(64 * 64), [64, 64], "float32");
    const x = t.tensor(backend, new t.Rng(3).normal(3 * 64), [3, 64], "float32");
    const run = (): t.Tensor => t.scope(() => t.softmax(t.linear(t.silu(t.linear(x, weight)), weight), 1));
    const captured = capture(backend, run);
    for (let i = 0; i < 5; i++) {
      t.write(x, Float32Array.from(new t.Rng(10 + i).normal(3 * 64)));
      const eager = run();
      captured.replay();
      // Work in between must not take the capture's memory.
      const noise = t.scope(() => t.mul(t.fill(backend, [64, 64], i), 3));
      expect(await floats(captured.result)).toEqual(await floats(eager));
      for (const made of [eager, noise]) made.dispose();
    }
    captured.result.dispose();
    captured[Symbol.dispose]();
    for (const made of [weight, x]) made.dispose();
  });

  test("training-like work reaches a constant number of buffers", async () => {
    const step = async (): Promise<void> => {
      const y = t.scope(() => t.sum(t.exp(t.mul(t.fill(backend, [500, 70], 0.5), 2))));
      await y.data();
      y.dispose();
    };
    await step();
    const { liveBuffers } = backend.memory();
    for (let i = 0; i < 20; i++) await step();
    expect(backend.memory().liveBuffers).toBe(liveBuffers);
  });

  test("a lost device is a typed error wherever it is met", async () => {
    const gpu = await Gpu.open({});
    const memory = new WebGpuMemory(gpu, { poison: false });
    const buf = memory.upload(Float32Array.of(1, 2), "float32");
    gpu.device.destroy();
    await gpu.device.lost;
    expect(() => memory.alloc(1, "float32")).toThrow(code("device-lost"));
    expect(() => memory.write(buf, Float32Array.of(3))).toThrow(code("device-lost"));
    await expect(memory.read(buf)).rejects.toEqual(code("device-lost"));
    memory.free(buf);
    expect(memory.use.liveBuffers).toBe(0);
  });

  test("reads that are under way when the device goes say that it was lost", async () => {
    const gpu = await Gpu.open({});
    const memory = new WebGpuMemory(gpu, { poison: false });
    const buf = memory.upload(Float32Array.of(1, 2), "float32");
    const reads = [memory.read(buf), memory.read(buf, 0, 1)];
    await Promise.resolve();
    gpu.device.destroy();
    for (const read of await Promise.allSettled(reads))
      expect(read).toMatchObject({
        status: "rejected",
        reason: { code: "device-lost", message: expect.stringMatching(/the device was lost/) },
      });
  });

  test("an invalid launch is thrown by the next read, once, with the kernel and its shapes", async () => {
    const gpu = await Gpu.open({});
    const memory = new WebGpuMemory(gpu, { poison: false });
    const buf = memory.upload(Float32Array.of(1, 2), "float32");
    const params = { count: 2, run: 2, x_start: 0, x_pitch: 0, y_start: 0, y_pitch: 0 };
    // A buffer may not be read and written by one kernel.
    gpu.run("copy/place", { x: buf, y: buf }, params, { threads: 2 });
    const fault = await memory.read(buf).catch((error: Error & { code?: string }) => error);
    expect(fault).toMatchObject({ code: "backend", message: expect.stringMatching(/copy\/place .*count 2, run 2/s) });
    expect(await memory.read(buf).then((bytes) => [...new Float32Array(bytes)])).toEqual([1, 2]);
    memory.free(buf);
    gpu.dispose();
  });
});
