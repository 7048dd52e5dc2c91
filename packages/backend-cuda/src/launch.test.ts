import { expect, test } from "vitest";
import { f32, f64, i32, i64, pack } from "./launch.js";

test("parameters lie as a compiler lays them out: each aligned to its size, bytes to what they ask for", () => {
  const map = Uint8Array.from({ length: 128 }, (_, i) => i + 1);
  const packed = pack([i32(7), i64([-2, 2 ** 40]), f32(0.5), { bytes: map, align: 64 }, f64(0.25)]);
  expect(packed.byteLength).toBe(200);
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  expect(view.getInt32(0, true)).toBe(7);
  expect([view.getBigInt64(8, true), view.getBigInt64(16, true)]).toEqual([-2n, 2n ** 40n]);
  expect(view.getFloat32(24, true)).toBe(0.5);
  expect(packed.subarray(64, 192)).toEqual(map);
  expect(view.getFloat64(192, true)).toBe(0.25);
});
