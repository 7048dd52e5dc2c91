import { expect, test } from "vitest";
import { randomNumbers } from "../test/support.js";
import { f16ToNumber } from "./half.js";
import { decodeQ8, encodeQ8 } from "./q8.js";

test("a block is its scale and 32 rounded multiples of it", () => {
  const values = Float32Array.from({ length: 32 }, (_, i) => (i - 16) / 4);
  values[5] = 12.7;
  const blocks = new Uint8Array(34);
  encodeQ8(values, blocks);
  const scale = f16ToNumber(blocks[0]! | (blocks[1]! << 8));
  expect(scale).toBeCloseTo(0.1, 4);
  const quants = new Int8Array(blocks.buffer, 2);
  expect(quants[5]).toBe(127);
  expect([...quants.slice(0, 4)]).toEqual([-40, -38, -35, -33]); // float32's 12.7 / 127 is a little below 0.1, so -3.75 is past -37.5
  const decoded = new Float32Array(32);
  decodeQ8(blocks, 0, decoded);
  for (let i = 0; i < 32; i++) expect(decoded[i]).toBe(Math.fround(scale * quants[i]!));
});

test("ties are rounded away from zero, zeros stay zeros, and decoding starts at any block", () => {
  const values = new Float32Array(96);
  values[32] = 127;
  values[33] = 0.5;
  values[34] = -0.5;
  values[35] = 2.5;
  values.fill(-3, 64);
  const blocks = new Uint8Array(102);
  encodeQ8(values, blocks);
  expect([...new Int8Array(blocks.buffer, 36, 4)]).toEqual([127, 1, -1, 3]);
  const tail = new Float32Array(64);
  decodeQ8(blocks, 32, tail);
  expect([...tail.subarray(0, 5)]).toEqual([127, 1, -1, 3, 0]);
  expect(tail[63]).toBeCloseTo(-3, 2);
  expect([...blocks.subarray(0, 34)]).toEqual(new Array(34).fill(0));
});

test("the error is at most half a step of the scale, and what was decoded encodes to itself", () => {
  const values = Float32Array.from(randomNumbers(5)(320), (x) => 3 * x);
  const blocks = new Uint8Array(340);
  encodeQ8(values, blocks);
  const decoded = new Float32Array(320);
  decodeQ8(blocks, 0, decoded);
  values.forEach((x, i) => {
    const largest = Math.max(...values.subarray(i - (i % 32), i - (i % 32) + 32).map(Math.abs));
    expect(Math.abs(decoded[i]! - x)).toBeLessThanOrEqual((largest / 127) * 0.5 + largest * 2 ** -10);
  });
  const again = new Uint8Array(340);
  encodeQ8(decoded, again);
  expect(again).toEqual(blocks);
});
