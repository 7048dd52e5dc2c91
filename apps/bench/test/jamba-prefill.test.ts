import { createBackend } from "@mamba-ts/backend-wasm";
import { Jamba } from "@mamba-ts/jamba";
import { scope } from "@mamba-ts/tensor";
import { expect, test } from "vitest";
import { prefill, prefillConfig, prefillTokens } from "../src/benches/jamba-prefill.js";

const LENGTH = 8192;

async function inMemory<T>(maxMemoryBytes: number, use: (model: Jamba) => Promise<T>): Promise<T> {
  const backend = await createBackend({ maxMemoryBytes, threads: 2 });
  try {
    using model = Jamba.create(prefillConfig, { backend, seed: 1 });
    return await use(model);
  } finally {
    backend[Symbol.dispose]();
  }
}

test("in chunks a prompt is read in memory that does not hold the whole of it, and gives what the whole gives", async () => {
  const tokens = prefillTokens(LENGTH);
  const whole = async (model: Jamba): Promise<Float64Array> => {
    using logits = scope(() => model.forward([tokens], { logits: "last" }).logits!);
    return Float64Array.from(await logits.data());
  };
  const want = await inMemory(2 ** 31, whole);
  await expect(inMemory(2 ** 25, whole)).rejects.toMatchObject({ code: "out-of-memory" });
  const got = await inMemory(2 ** 25, async (model) => {
    const sizes: number[] = [];
    const resting = model.backend.memory().liveBytes;
    const { logits, state, estimatedBytes, liveBytes } = await prefill(model, tokens, 256, () =>
      sizes.push(model.backend.memory().liveBytes - resting),
    );
    // The keys and values of one attention layer, and of the other layers what does not grow.
    expect(estimatedBytes - model.stateBytes(1, 0)).toBe(LENGTH * 2 * prefillConfig.dModel * 4);
    expect(state.bytes).toBe(estimatedBytes);
    // Nothing but the state lives on from chunk to chunk, but for the last one's logits.
    expect(new Set(sizes.slice(0, -1))).toEqual(new Set([estimatedBytes]));
    expect(liveBytes).toBe(estimatedBytes + 4 * prefillConfig.vocabSize);
    const data = Float64Array.from(await logits.data());
    logits.dispose();
    state.dispose();
    return data;
  });
  const norm = (x: Float64Array): number => Math.hypot(...x);
  expect(norm(got.map((x, i) => x - want[i]!)) / norm(want)).toBeLessThan(1e-5);
});

test("a prompt that is too long is refused before anything is read, and one that has no memory before anything is computed", async () => {
  await inMemory(2 ** 25, async (model) => {
    await expect(prefill(model, prefillTokens(262_145), 1024)).rejects.toMatchObject({ code: "invalid-argument" });
    const { liveBuffers } = model.backend.memory();
    let chunks = 0;
    const long = prefill(model, prefillTokens(262_144), 1024, () => chunks++);
    await expect(long).rejects.toMatchObject({ code: "out-of-memory" });
    expect(chunks).toBe(0);
    expect(model.backend.memory().liveBuffers).toBe(liveBuffers);
  });
});
