import { expect, test } from "vitest";
import { philox } from "./philox.js";

function block(counter: number, stream: number, seed: number): string[] {
  const words = new Uint32Array(4);
  philox(counter, stream, seed, words);
  return [...words].map((w) => w.toString(16).padStart(8, "0"));
}

// The first known answer of Random123's kat_vectors; its others need counters above 2^53.
test("the published answer", () => {
  expect(block(0, 0, 0)).toEqual(["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]);
});

/** Products by BigInt, with none of the implementation's splitting. */
function reference(counter: number, stream: number, seed: number): string[] {
  const word = 0xffffffffn;
  const halves = (n: number): [bigint, bigint] => [BigInt(n) & word, BigInt(n) >> 32n];
  let [c0, c1, c2, c3] = [...halves(counter), ...halves(stream)];
  let [k0, k1] = halves(seed);
  for (let round = 0; round < 10; round++) {
    const [p0, p1] = [0xd2511f53n * c0, 0xcd9e8d57n * c2];
    [c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, p1 & word, (p0 >> 32n) ^ c3 ^ k1, p0 & word];
    [k0, k1] = [(k0 + 0x9e3779b9n) & word, (k1 + 0xbb67ae85n) & word];
  }
  return [c0, c1, c2, c3].map((w) => w.toString(16).padStart(8, "0"));
}

test("counters, streams and seeds above 2^32", () => {
  const cases: readonly [number, number, number][] = [
    [1, 0, 0],
    [0xffffffff, 0xffffffff, 0xffffffff],
    [2 ** 32, 2 ** 40 + 7, 2 ** 52 + 12345],
    [2 ** 53 - 1, 2 ** 53 - 1, 2 ** 53 - 1],
    [0x85a308d3, 0x03707344, 0x299f31d0],
  ];
  for (const args of cases) expect(block(...args)).toEqual(reference(...args));
});
