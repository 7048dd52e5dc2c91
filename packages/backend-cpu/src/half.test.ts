import { expect, test } from "vitest";
import { bf16ToNumber, decodeBf16, decodeF16, f16ToNumber, numberToBf16, numberToF16 } from "./half.js";

const formats = [
  { name: "f16", decode: f16ToNumber, encode: numberToF16, decodeAll: decodeF16, infinity: 0x7c00 },
  { name: "bf16", decode: bf16ToNumber, encode: numberToBf16, decodeAll: decodeBf16, infinity: 0x7f80 },
] as const;

for (const { name, decode, encode, decodeAll, infinity } of formats) {
  test(`${name}: every word decodes and encodes to itself`, () => {
    const words = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const all = new Float32Array(65536);
    decodeAll(words, 0, all);
    const wrong = words.filter((word) => {
      const [value, back] = [decode(word), encode(decode(word))];
      return !Object.is(all[word], value) || (Number.isNaN(value) ? (back & 0x7fff) <= infinity : back !== word);
    });
    expect([...wrong]).toEqual([]);
    const part = new Float32Array(3);
    decodeAll(words, 1000, part);
    expect([...part]).toEqual([1000, 1001, 1002].map(decode));
  });

  test(`${name}: rounds to the nearest, ties to even, subnormals and overflow included`, () => {
    const wrong: unknown[] = [];
    for (let word = 0; word < infinity; word++) {
      const [low, next] = [decode(word), decode(word + 1)];
      const middle = next === Number.POSITIVE_INFINITY ? low + (low - decode(word - 1)) / 2 : (low + next) / 2;
      const even = word % 2 === 0 ? word : word + 1;
      const step = middle * 2 ** -22 + 2 ** -149; // at least one float32 away
      const got = [
        encode(middle),
        encode(Math.fround(middle - step)),
        encode(Math.fround(middle + step)),
        encode(-middle),
      ];
      const want = [even, word, word + 1, even | 0x8000];
      if (got.some((g, i) => g !== want[i])) wrong.push({ word, got, want });
    }
    expect(wrong).toEqual([]);
  });
}

test("known values", () => {
  expect([1, -2, 65504, 65519, 65520, 2 ** -24, 2 ** -25, 0.1, -0].map(numberToF16)).toEqual([
    0x3c00, 0xc000, 0x7bff, 0x7bff, 0x7c00, 1, 0, 0x2e66, 0x8000,
  ]);
  expect([1, -2, 3.4e38, 0.1, 2 ** -133, 2 ** -134, -0].map(numberToBf16)).toEqual([
    0x3f80, 0xc000, 0x7f80, 0x3dcd, 1, 0, 0x8000,
  ]);
  expect([Number.NEGATIVE_INFINITY].map(numberToF16)).toEqual([0xfc00]);
});
