import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { giveTurn, tensor } from "@mamba-ts/tensor";
import { expect, test } from "vitest";

test("a loop of readbacks lets a timer through, though the backend computes at once", async () => {
  using backend = createCpuBackend();
  using x = tensor(backend, [1], [1], "float32");
  let isDone = false;
  setTimeout(() => {
    isDone = true;
  }, 1);
  let reads = 0;
  while (!isDone && reads < 10_000_000) {
    await x.item();
    reads++;
  }
  expect(isDone).toBe(true);
});

test("in a page, where there is no setImmediate, too", async () => {
  const { setImmediate } = globalThis;
  Reflect.deleteProperty(globalThis, "setImmediate");
  try {
    let isDone = false;
    setTimeout(() => {
      isDone = true;
    }, 1);
    for (let i = 0; !isDone && i < 10_000_000; i++) await giveTurn();
    expect(isDone).toBe(true);
  } finally {
    globalThis.setImmediate = setImmediate;
  }
});
