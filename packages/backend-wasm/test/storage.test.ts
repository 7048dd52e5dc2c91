import { isMambaError } from "@mamba-ts/backend";
import { expect, test } from "vitest";
import { createBackend } from "../src/index.js";
import { operandOf, randomNumbers } from "./support.js";

function codeOf(fn: () => unknown): string | undefined {
  try {
    fn();
  } catch (error) {
    return isMambaError(error) ? error.code : String(error);
  }
  return undefined;
}

test("live buffers and bytes are counted exactly, in every format", async () => {
  const backend = await createBackend();
  const bufs = (["float32", "bf16", "f16", "int32", "q8_0"] as const).map((dtype) => backend.alloc(64, dtype));
  expect(backend.memory()).toEqual({ liveBuffers: 5, liveBytes: 256 + 128 + 128 + 256 + 68 });
  for (const buf of bufs) backend.free(buf);
  expect(backend.memory()).toEqual({ liveBuffers: 0, liveBytes: 0 });
});

test("what is uploaded is read back, also across growth of the memory", async () => {
  const backend = await createBackend();
  const source = Float32Array.of(1, 2, 3, 4, 5);
  const buf = backend.upload(source.subarray(1), "float32");
  source.fill(0);
  const large = backend.fill([3 * 2 ** 22], 7, "float32");
  backend.write(buf, Float32Array.of(8, 9), 1);
  expect([...new Float32Array(await backend.read(buf))]).toEqual([2, 8, 9, 5]);
  expect([...new Float32Array(await backend.read(large, 3 * 2 ** 22 - 2))]).toEqual([7, 7]);
  expect(codeOf(() => backend.write(buf, Float32Array.of(1), 4))).toBe("invalid-argument");
  expect(codeOf(() => backend.write(buf, Float32Array.of(1), -1))).toBe("invalid-argument");
  await expect(backend.read(buf, 3, 2)).rejects.toMatchObject({ code: "invalid-argument" });
});

test("what cannot be is refused by a typed error, and leaves nothing allocated", async () => {
  const backend = await createBackend();
  const other = await createBackend();
  const foreign = operandOf(other.fill([2], 1, "float32"), [2]);
  expect(codeOf(() => backend.free(foreign.buf))).toBe("backend-mismatch");
  expect(codeOf(() => backend.unary("neg", foreign))).toBe("backend-mismatch");
  expect(codeOf(() => backend.alloc(2, "float64"))).toBe("dtype");
  expect(codeOf(() => backend.alloc(33, "q8_0"))).toBe("invalid-argument");
  expect(codeOf(() => backend.alloc(-1, "float32"))).toBe("invalid-argument");
  expect(codeOf(() => backend.upload(new Uint8Array(6), "float32"))).toBe("invalid-argument");
  expect(backend.memory().liveBuffers).toBe(0);
  const ints = operandOf(backend.fill([2], 1, "int32"), [2]);
  expect(codeOf(() => backend.binary("div", ints, ints))).toBe("dtype");
  expect(codeOf(() => backend.unary("exp", ints))).toBe("dtype");
  expect(codeOf(() => backend.matmul(ints, ints, { transA: false, transB: false, out: "float32" }))).toBe("dtype");
  expect(codeOf(() => backend.linearScan(ints, ints, 0, false))).toBe("dtype");
  expect(backend.memory().liveBuffers).toBe(1);
  backend.free(ints.buf);
  expect(codeOf(() => backend.unary("neg", ints))).toBe("disposed");
  expect(codeOf(() => backend.free(ints.buf))).toBe("disposed");
  other[Symbol.dispose]();
  expect(codeOf(() => other.alloc(1, "float32"))).toBe("disposed");
  expect(codeOf(() => other.unary("neg", foreign))).toBe("disposed");
  expect(codeOf(() => other.free(foreign.buf))).toBeUndefined();
  await expect(createBackend({ maxMemoryBytes: 2 ** 40 })).rejects.toMatchObject({ code: "invalid-argument" });
});

test("memory that is not to be had is asked for by name, and work goes on", async () => {
  const backend = await createBackend({ maxMemoryBytes: 2 ** 25 });
  expect(() => backend.alloc(2 ** 24, "float32")).toThrow(/no memory for 67108864 bytes.*33554432/);
  const half = backend.alloc(2 ** 22, "float32");
  const view = operandOf(half, [2 ** 22]);
  expect(codeOf(() => backend.unary("exp", view))).toBe("out-of-memory");
  expect(backend.memory().liveBuffers).toBe(1);
  backend.free(half);
  backend.free(backend.alloc(2 ** 22, "float32"));
  expect(backend.memory().liveBuffers).toBe(0);
});

test("memory does not fall to pieces", async () => {
  // Buffers of many sizes come and go within 24 MiB; then all of it is one piece again.
  const backend = await createBackend({ maxMemoryBytes: 2 ** 25 });
  const random = randomNumbers(3);
  const live: ReturnType<typeof backend.alloc>[] = [];
  for (let i = 0; i < 20_000; i++) {
    if (live.length > 40) backend.free(live.splice(Math.floor(random() * live.length), 1)[0]!);
    live.push(backend.alloc(Math.floor(2 ** (17 * random())), "float32"));
  }
  for (const buf of live) backend.free(buf);
  backend.free(backend.alloc(3 * 2 ** 21, "float32"));
});

test("poison fills new and reused memory alike", async () => {
  const backend = await createBackend({ poison: true });
  for (let round = 0; round < 2; round++) {
    const floats = backend.alloc(5, "float32");
    expect([...new Float32Array(await backend.read(floats))]).toEqual(new Array(5).fill(Number.NaN));
    backend.write(floats, new Float32Array(5));
    backend.free(floats);
  }
});
