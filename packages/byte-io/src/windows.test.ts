import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ByteDataError } from "./errors.js";
import { memorySource } from "./source.js";
import { windowsOf } from "./windows.js";

const counting = (size: number) => memorySource(Uint8Array.from({ length: size }, (_, i) => i));

describe("windowsOf", () => {
  it("has every place once, and no other", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 1, max: 9 }),
        (a, b, stride) => {
          const [length, size] = a < b ? [a, b] : [b, a];
          const windows = windowsOf(counting(size), length, { stride });
          const offsets = Array.from({ length: windows.count }, (_, i) => windows.at(i).offset);
          const want = Array.from({ length: size }, (_, i) => i * stride).filter((offset) => offset + length <= size);
          expect(offsets).toEqual(want);
        },
      ),
    );
  });

  it("takes any number of a generator, the largest included, always with the same window", async () => {
    const windows = windowsOf(counting(10), 4);
    expect(windows.count).toBe(7);
    expect(windows.at(7)).toEqual({ offset: 0, length: 4 });
    expect(windows.at(2 ** 32 - 1)).toEqual({ offset: (2 ** 32 - 1) % 7, length: 4 });
    expect(windows.at(Number.MAX_SAFE_INTEGER).offset).toBe(Number(BigInt(Number.MAX_SAFE_INTEGER) % 7n));
    expect(await windows.read(9)).toEqual(Uint8Array.of(2, 3, 4, 5));
  });

  it("streams the windows of a stream of numbers, in its order", async () => {
    const windows = windowsOf(counting(9), 3, { stride: 3 });
    async function* later(): AsyncGenerator<number> {
      yield* [2, 0, 5];
    }
    for (const indices of [[2, 0, 5], later()]) {
      const seen: { offset: number; bytes: Uint8Array }[] = [];
      for await (const window of windows.stream(indices)) seen.push(window);
      expect(seen).toEqual([
        { offset: 6, bytes: Uint8Array.of(6, 7, 8) },
        { offset: 0, bytes: Uint8Array.of(0, 1, 2) },
        { offset: 6, bytes: Uint8Array.of(6, 7, 8) },
      ]);
    }
  });

  it("draws evenly from even numbers", () => {
    const windows = windowsOf(counting(20), 5);
    const hits = new Map<number, number>();
    for (let i = 0; i < 16 * 100; i++) hits.set(windows.at(i).offset, (hits.get(windows.at(i).offset) ?? 0) + 1);
    expect([...hits.values()]).toEqual(new Array(16).fill(100));
  });

  it("says what is wrong with the source or the arguments", () => {
    expect(() => windowsOf(memorySource(new Uint8Array(0), "a.txt"), 1)).toThrow("a.txt is empty");
    expect(() => windowsOf(memorySource(new Uint8Array(3), "a.txt"), 4)).toThrow("a.txt has 3 bytes, fewer than the 4");
    for (const bad of [0, -1, 1.5, Number.NaN]) {
      expect(() => windowsOf(counting(4), bad)).toThrow(ByteDataError);
      expect(() => windowsOf(counting(4), 2, { stride: bad })).toThrow(ByteDataError);
    }
    for (const bad of [-1, 0.5, 2 ** 53]) expect(() => windowsOf(counting(4), 2).at(bad)).toThrow(`index is ${bad}`);
  });
});
