import { expect, test } from "vitest";
import { i64, pointer } from "./launch.js";
import { CudaMemory } from "./memory.js";
import type { NativeDevice } from "./native.js";

/** Memory whose device hands out addresses and does nothing. */
function memory(): CudaMemory {
  let next = 0;
  const device = { alloc: (bytes: number) => (next += bytes), release: () => undefined } as unknown as NativeDevice;
  return new CudaMemory(device, { maxBytes: 2 ** 30, poison: false });
}

test("a buffer may be read early once a chain of waiting kernels has ended after its last use", () => {
  const m = memory();
  const [weight, x, y] = [0, 1, 2].map(() => m.alloc(4, "float32")) as [never, never, never];
  expect(m.isSettled(weight)).toBe(false);
  m.launched([weight, i64(4)]);
  // Nothing but buffers that are made in between, however many.
  for (let i = 0; i < 100; i++) m.free(m.alloc(4, "float32"));
  expect(m.isSettled(weight)).toBe(false);
  // Kernels that let the next start before they have waited end nothing.
  for (let i = 0; i < 100; i++) m.launched([x, y], true);
  expect(m.isSettled(weight)).toBe(false);
  m.launched([x, y]);
  expect(m.isSettled(weight)).toBe(true);
  expect(m.isSettled(x)).toBe(false);
});

test("a launch uses the buffers that its addresses lie in", () => {
  const m = memory();
  const weight = m.alloc(8, "float32");
  m.launched([]);
  expect(m.isSettled(weight)).toBe(true);
  m.launched([pointer(weight, 4)]);
  expect(m.isSettled(weight)).toBe(false);
  m.launched([pointer(undefined)]);
  expect(m.isSettled(weight)).toBe(true);
  // By a kernel that passes: the end of its chain comes after it.
  m.launched([weight], true);
  expect(m.isSettled(weight)).toBe(false);
  m.launched([]);
  expect(m.isSettled(weight)).toBe(true);
});
