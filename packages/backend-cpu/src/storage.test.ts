import { isMambaError } from "@mamba-ts/backend";
import { createBackend, createCpuBackend } from "@mamba-ts/backend-cpu";
import { expect, test } from "vitest";

function codeOf(fn: () => unknown): string | undefined {
  try {
    fn();
  } catch (error) {
    return isMambaError(error) ? error.code : String(error);
  }
  return undefined;
}

test("live buffers and bytes are counted exactly, in every format", () => {
  const backend = createCpuBackend();
  const bufs = (["float32", "float64", "bf16", "f16", "int32", "q8_0"] as const).map((dtype) =>
    backend.alloc(64, dtype),
  );
  expect(backend.memory()).toEqual({ liveBuffers: 6, liveBytes: 256 + 512 + 128 + 128 + 256 + 68 });
  for (const buf of bufs) backend.free(buf);
  expect(backend.memory()).toEqual({ liveBuffers: 0, liveBytes: 0 });
});

test("what is uploaded is read back; parts are written and read", async () => {
  const backend = await createBackend();
  const source = Float32Array.of(1, 2, 3, 4, 5);
  const buf = backend.upload(source.subarray(1), "float32");
  source.fill(0);
  backend.write(buf, Float32Array.of(8, 9), 1);
  expect([...new Float32Array(await backend.read(buf))]).toEqual([2, 8, 9, 5]);
  expect([...new Float32Array(await backend.read(buf, 2, 1))]).toEqual([9]);
  expect(codeOf(() => backend.write(buf, Float32Array.of(1), 4))).toBe("invalid-argument");
  expect(codeOf(() => backend.write(buf, Float32Array.of(1), -1))).toBe("invalid-argument");
  await expect(backend.read(buf, 3, 2)).rejects.toMatchObject({ code: "invalid-argument" });
  expect(codeOf(() => backend.upload(new Uint8Array(33), "q8_0"))).toBe("invalid-argument");
  backend.free(buf);
});

test("a buffer is refused after it was freed, by another backend, and after the backend is gone", async () => {
  const backend = createCpuBackend();
  const other = createCpuBackend();
  const buf = backend.alloc(3, "float32");
  const operand = { buf, offset: 0, rowStride: 3, shape: [3], dtype: "float32" } as const;
  expect(codeOf(() => other.unary("neg", operand))).toBe("backend-mismatch");
  expect(codeOf(() => other.free({ dtype: "float32", count: 3 }))).toBe("backend-mismatch");
  backend.free(buf);
  expect(codeOf(() => backend.free(buf))).toBe("disposed");
  expect(codeOf(() => backend.unary("neg", operand))).toBe("disposed");
  await expect(backend.read(buf)).rejects.toMatchObject({ code: "disposed" });
  expect(backend.memory().liveBuffers).toBe(0);

  const last = other.alloc(1, "float32");
  other[Symbol.dispose]();
  expect(codeOf(() => other.alloc(1, "float32"))).toBe("disposed");
  expect(codeOf(() => other.free(last))).toBeUndefined();
});

test("a failed operation leaves no buffer behind", () => {
  const backend = createCpuBackend();
  const own = backend.upload(Float32Array.of(1), "float32");
  const operand = { buf: own, offset: 0, rowStride: 1, shape: [1], dtype: "float32" } as const;
  const foreign = { ...operand, buf: createCpuBackend().alloc(1, "float32") };
  const before = backend.memory();
  expect(codeOf(() => backend.binary("add", operand, foreign))).toBe("backend-mismatch");
  expect(backend.memory()).toEqual(before);
});

test("memory that is not to be had is asked for by name", () => {
  const small = createCpuBackend({ maxBufferBytes: 1024 });
  expect(small.limits.maxBufferBytes).toBe(1024);
  expect(codeOf(() => small.alloc(257, "float32"))).toBe("out-of-memory");
  expect(() => small.fill([2000], 0, "float32")).toThrow(/8000 bytes/);
  const large = createCpuBackend({ maxBufferBytes: 2 ** 60 });
  expect(() => large.alloc(2 ** 50, "float64")).toThrow(/9007199254740992 bytes/);
  expect(codeOf(() => large.alloc(2 ** 50, "float64"))).toBe("out-of-memory");
  expect(small.memory().liveBuffers + large.memory().liveBuffers).toBe(0);
  expect(codeOf(() => createCpuBackend({ maxBufferBytes: 0 }))).toBe("invalid-argument");
  expect(codeOf(() => small.alloc(-1, "float32"))).toBe("invalid-argument");
});

test("poison fills new and reused memory alike", async () => {
  const backend = createCpuBackend({ poison: true });
  for (let round = 0; round < 2; round++) {
    const floats = backend.alloc(5, "float32");
    expect([...new Float32Array(await backend.read(floats))]).toEqual(new Array(5).fill(Number.NaN));
    backend.write(floats, new Float32Array(5));
    backend.free(floats);
  }
  for (const dtype of ["bf16", "f16", "q8_0", "float64"] as const) {
    const buf = backend.alloc(32, dtype);
    const operand = { buf, offset: 0, rowStride: 32, shape: [32], dtype };
    const wide = backend.cast(operand, "float32");
    expect([...new Float32Array(await backend.read(wide))].every(Number.isNaN), dtype).toBe(true);
    backend.free(buf);
    backend.free(wide);
  }
});

test("fused operations can be replaced or left out", () => {
  expect(createCpuBackend({ fused: {} }).fused).toEqual({});
  const { rmsNorm } = createCpuBackend().fused!;
  expect(createCpuBackend({ fused: { rmsNorm: rmsNorm! } }).fused?.selectiveScan).toBeUndefined();
});
