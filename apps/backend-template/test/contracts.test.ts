// What the interface's comments promise and the suite, which goes through tensors, may not reach.
import type { Backend, Buf, Operand, Shape } from "@mamba-ts/backend";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createBackend } from "../src/index.js";

let backend: Backend;
beforeEach(async () => {
  backend = await createBackend({ poison: true });
});
afterEach(() => backend[Symbol.dispose]());

const operand = (buf: Buf, shape: Shape): Operand => ({
  buf,
  offset: 0,
  rowStride: shape.at(-1) ?? 1,
  shape,
  dtype: buf.dtype,
});
const floats = (values: readonly number[], shape: Shape = [values.length]): Operand =>
  operand(backend.upload(Float32Array.from(values), "float32"), shape);
const ints = (values: readonly number[], shape: Shape = [values.length]): Operand =>
  operand(backend.upload(Int32Array.from(values), "int32"), shape);
async function values(buf: Buf): Promise<number[]> {
  const bytes = await backend.read(buf);
  return Array.from(buf.dtype === "int32" ? new Int32Array(bytes) : new Float32Array(bytes));
}
const product = { transA: false, transB: false, out: "float32" } as const;

describe("storage", () => {
  test("buffers of many pages come back as they were, whole and in parts", async () => {
    const numbers = Int32Array.from({ length: 5000 }, (_, i) => i * i);
    const buf = backend.upload(numbers, "int32");
    expect(buf.count).toBe(5000);
    expect(await values(buf)).toEqual(Array.from(numbers));
    expect(new Int32Array(await backend.read(buf, 1020, 8))).toEqual(numbers.slice(1020, 1028));
    backend.write(buf, Int32Array.of(-1, -2, -3, -4), 2046);
    expect(new Int32Array(await backend.read(buf, 2045, 6))).toEqual(
      Int32Array.of(2045 ** 2, -1, -2, -3, -4, 2050 ** 2),
    );
  });

  test("uploaded bytes need no alignment, and are copied", async () => {
    const bytes = new Uint8Array(13);
    new DataView(bytes.buffer).setFloat32(1, 1.5, true);
    new DataView(bytes.buffer).setFloat32(5, -2, true);
    const buf = backend.upload(bytes.subarray(1, 9), "float32");
    bytes.fill(0);
    expect(await values(buf)).toEqual([1.5, -2]);
  });

  test("memory() counts every buffer and byte", () => {
    const [a, b, empty] = [backend.alloc(1025, "float32"), backend.fill([3, 2], 1, "int32"), backend.alloc(0, "int32")];
    expect(backend.memory()).toEqual({ liveBuffers: 3, liveBytes: 4 * (1025 + 6) });
    backend.free(a);
    expect(backend.memory()).toEqual({ liveBuffers: 2, liveBytes: 24 });
    backend.free(b);
    backend.free(empty);
    expect(backend.memory()).toEqual({ liveBuffers: 0, liveBytes: 0 });
  });

  test("after free, every use is a disposed error", async () => {
    const { buf } = floats([1, 2]);
    const x = operand(buf, [2]);
    backend.free(buf);
    const disposed = expect.objectContaining({ code: "disposed" });
    await expect(backend.read(buf)).rejects.toEqual(disposed);
    for (const use of [
      () => backend.free(buf),
      () => backend.write(buf, new Float32Array(1)),
      () => backend.unary("neg", x),
      () => backend.reduce("sum", x, 0),
      () => backend.concat([x], 0),
      () => backend.linearScan(x, x, 0, false),
      () => backend.matmul(operand(buf, [1, 2]), operand(buf, [2, 1]), product),
      () => backend.copy({ buf, offset: 0, shape: [2], strides: [1], dtype: "float32" }),
    ])
      expect(use).toThrow(disposed);
    expect(backend.memory()).toEqual({ liveBuffers: 0, liveBytes: 0 });
  });

  test("a disposed backend refuses work, but lets its buffers go", async () => {
    const other = await createBackend();
    const buf = other.fill([2], 1, "float32");
    other[Symbol.dispose]();
    const disposed = expect.objectContaining({ code: "disposed" });
    expect(() => other.alloc(1, "float32")).toThrow(disposed);
    expect(() => other.unary("neg", operand(buf, [2]))).toThrow(disposed);
    await expect(other.read(buf)).rejects.toEqual(disposed);
    other.free(buf);
    expect(other.memory().liveBuffers).toBe(0);
  });

  test("what cannot be is refused by a typed error, and leaves nothing allocated", async () => {
    const code = (name: string) => expect.objectContaining({ code: name });
    const other = await createBackend();
    const foreign = other.fill([2], 1, "float32");
    expect(() => backend.free(foreign)).toThrow(code("backend-mismatch"));
    expect(() => backend.unary("neg", operand(foreign, [2]))).toThrow(code("backend-mismatch"));
    other[Symbol.dispose]();
    expect(() => backend.alloc(2, "float64")).toThrow(code("dtype"));
    expect(() => backend.upload(new Uint8Array(34), "q8_0")).toThrow(code("dtype"));
    expect(() => backend.alloc(-1, "float32")).toThrow(code("invalid-argument"));
    expect(() => backend.upload(new Uint8Array(6), "float32")).toThrow(code("invalid-argument"));
    expect(() => backend.alloc(2 ** 40, "float32")).toThrow(code("out-of-memory"));
    expect(backend.memory().liveBuffers).toBe(0);
    const x = ints([1, 2]);
    expect(() => backend.write(x.buf, new Int32Array(2), 1)).toThrow(code("invalid-argument"));
    await expect(backend.read(x.buf, 1, 2)).rejects.toEqual(code("invalid-argument"));
    expect(() => backend.binary("div", x, x)).toThrow(code("dtype"));
    expect(() => backend.linearScan(x, x, 0, false)).toThrow(code("dtype"));
    expect(() => backend.matmul(x, x, product)).toThrow(code("dtype"));
    expect(() => backend.cast(x, "bf16")).toThrow(code("dtype"));
    expect(backend.memory().liveBuffers).toBe(1);
  });
});

describe("primitives", () => {
  test("gather gives zeros outside the axis, in every outer row", async () => {
    const y = backend.gather(floats([1, 2, 3, 4, 5, 6], [2, 3]), ints([2, 3, -1, 0]), 1);
    expect(await values(y)).toEqual([3, 0, 0, 1, 6, 0, 0, 4]);
  });

  test("scatterAdd adds what repeats and drops what is outside", async () => {
    const updates = floats([1, 2, 10, 20, 100, 200, 1000, 2000], [4, 2]);
    const y = backend.scatterAdd([3, 2], ints([2, -1, 2, 3]), updates, 0);
    expect(await values(y)).toEqual([0, 0, 0, 0, 101, 202]);
  });

  test("argReduce finds the first among equals, and NaN", async () => {
    const x = floats([1, 3, 3, 1, 2, Number.NaN, 5, Number.NaN, -0, 0, -0, 0], [3, 4]);
    expect(await values(backend.argReduce("max", x, 1))).toEqual([1, 1, 0]);
    expect(await values(backend.argReduce("min", x, 1))).toEqual([0, 1, 0]);
  });

  test("where never shows what is not selected", async () => {
    const y = backend.where(
      ints([0, 2], [2, 1]),
      floats([Number.NaN, 1, 2], [3]),
      floats([Number.POSITIVE_INFINITY], []),
    );
    const all = Number.POSITIVE_INFINITY;
    expect(await values(y)).toEqual([all, all, all, Number.NaN, 1, 2]);
    expect(await values(backend.where(ints([1]), floats([7]), floats([Number.NaN])))).toEqual([7]);
  });

  test("NaN in comparisons, max and min", async () => {
    const [x, y] = [floats([Number.NaN, 1, Number.NaN]), floats([1, Number.NaN, Number.NaN])];
    for (const op of ["eq", "lt", "le", "gt", "ge"] as const)
      expect(await values(backend.compare(op, x, y))).toEqual([0, 0, 0]);
    expect(await values(backend.compare("ne", x, y))).toEqual([1, 1, 1]);
    for (const op of ["max", "min"] as const)
      expect(await values(backend.binary(op, x, y))).toEqual([Number.NaN, Number.NaN, Number.NaN]);
    expect(await values(backend.reduce("max", x, 0))).toEqual([Number.NaN]);
  });

  test("int32 arithmetic is exact and wraps", async () => {
    const [x, y] = [ints([2 ** 30 + 1, -(2 ** 31), 123456789]), ints([2 ** 30 + 1, -1, 987654321])];
    expect(await values(backend.binary("mul", x, y))).toEqual([
      Math.imul(2 ** 30 + 1, 2 ** 30 + 1),
      Math.imul(-(2 ** 31), -1),
      Math.imul(123456789, 987654321),
    ]);
    expect(await values(backend.binary("add", x, y))).toEqual([-(2 ** 31) + 2, 2 ** 31 - 1, 1111111110]);
    expect(await values(backend.cast(floats([1.9, -1.9, -0.5]), "int32"))).toEqual([1, -1, 0]);
  });

  test("empty axes: sums are 0, maxima -Infinity, results of no elements empty", async () => {
    const none = floats([], [2, 0, 3]);
    expect(await values(backend.reduce("sum", none, 1))).toEqual([0, 0, 0, 0, 0, 0]);
    expect(await values(backend.reduce("max", none, 1))).toEqual(new Array(6).fill(Number.NEGATIVE_INFINITY));
    const inner = backend.matmul(floats([], [2, 0]), floats([], [0, 3]), product);
    expect(await values(inner)).toEqual([0, 0, 0, 0, 0, 0]);
    expect(await values(backend.pad(none, 1, 1, 0))).toEqual([0, 0, 0, 0, 0, 0]);
    expect(await values(backend.concat([none, floats([1, 2, 3, 4, 5, 6], [2, 1, 3])], 1))).toEqual([1, 2, 3, 4, 5, 6]);
    expect(await values(backend.gather(none, ints([0, 1]), 1))).toEqual(new Array(12).fill(0));
    expect(await values(backend.scatterAdd([2], ints([]), floats([]), 0))).toEqual([0, 0]);
    for (const empty of [
      backend.fill([0, 2], 1, "float32"),
      backend.unary("exp", none),
      backend.binary("add", none, floats([1])),
      backend.compare("eq", none, floats([1])),
      backend.where(ints([1]), none, floats([1])),
      backend.cast(none, "int32"),
      backend.reduce("sum", none, 0),
      backend.argReduce("max", none, 0),
      backend.copy({ buf: none.buf, offset: 0, shape: [3, 0, 2], strides: [1, 3, 0], dtype: "float32" }),
      backend.gather(none, ints([]), 1),
      backend.linearScan(none, none, 1, true),
    ])
      expect([empty.count, await values(empty)]).toEqual([0, []]);
  });

  test("pad trims where amounts are negative", async () => {
    expect(await values(backend.pad(floats([1, 2, 3, 4, 5, 6], [2, 3]), 1, -1, 2))).toEqual([2, 3, 0, 0, 5, 6, 0, 0]);
    expect(await values(backend.pad(floats([1, 2, 3, 4]), 0, 1, -3))).toEqual([0, 1]);
  });

  test("copy follows strides: repeated, backwards, scalar", async () => {
    const { buf } = floats([1, 2, 3, 4, 5, 6]);
    const view = (offset: number, shape: Shape, strides: readonly number[]) =>
      values(backend.copy({ buf, offset, shape, strides, dtype: "float32" }));
    expect(await view(5, [2, 3], [-3, -1])).toEqual([6, 5, 4, 3, 2, 1]);
    expect(await view(1, [2, 2], [0, 3])).toEqual([2, 5, 2, 5]);
    expect(await view(4, [], [])).toEqual([5]);
  });

  test("the scan runs both ways, from zero", async () => {
    const [a, b] = [floats([Number.POSITIVE_INFINITY, 2, 3]), floats([1, 10, 100])];
    expect(await values(backend.linearScan(a, b, 0, false))).toEqual([1, 12, 136]);
    expect(await values(backend.linearScan(floats([2, 3, Number.POSITIVE_INFINITY]), b, 0, true))).toEqual([
      621, 310, 100,
    ]);
  });

  test("results alias no operand", async () => {
    const x = floats([1, 2]);
    const y = backend.cast(x, "float32");
    const z = backend.concat([x], 0);
    backend.write(x.buf, Float32Array.of(7, 7));
    backend.free(x.buf);
    expect([await values(y), await values(z)]).toEqual([
      [1, 2],
      [1, 2],
    ]);
  });
});
