// Everything in a worker, as on a page's main thread: the same operations, and errors that come later but come.
import { runCase } from "@mamba-ts/backend-testing";
import { expect, test } from "vitest";
import { createBackend } from "../src/index.js";
import { casesOfEachOp, put, take } from "./support.js";

for (const threads of [1, 2])
  test(`every operation conforms, threads: ${threads}`, async () => {
    const backend = await createBackend({ worker: true, threads, poison: true });
    expect(backend.device).toContain(`${threads === 1 ? "one thread" : "2 threads"} in a worker`);
    for (const each of casesOfEachOp()) expect(await runCase(each, backend), each.name).toEqual([]);
    backend[Symbol.dispose]();
  });

test("memory grows as it does here, and what is read is what was written before", async () => {
  for (const threads of [1, 2]) {
    const backend = await createBackend({ worker: true, threads });
    const large = backend.fill([3 * 2 ** 22], 7, "float32");
    const small = put(backend, [1, 2, 3], [3]);
    const early = backend.read(small.buf);
    backend.write(small.buf, Float32Array.of(9), 1);
    expect([...new Float32Array(await early)]).toEqual([1, 2, 3]);
    expect(await take(backend, backend.unary("neg", small))).toEqual([-1, -9, -3]);
    expect([...new Float32Array(await backend.read(large, 3 * 2 ** 22 - 2))]).toEqual([7, 7]);
    backend[Symbol.dispose]();
  }
});

test("what is too large is refused at once, and reads that will not be answered are rejected", async () => {
  const backend = await createBackend({ worker: true, maxMemoryBytes: 2 ** 25 });
  expect(() => backend.alloc(2 ** 24, "float32")).toThrow(/no memory for 67108864 bytes/);
  const x = put(backend, [1], [1]);
  const waiting = backend.read(x.buf);
  backend[Symbol.dispose]();
  await expect(waiting).rejects.toMatchObject({ code: "disposed" });
  expect(() => backend.unary("neg", x)).toThrow(/disposed/);
});

test("a kernel that traps is told by the next reading, by name", async () => {
  const backend = await createBackend({ worker: true, threads: 1, maxMemoryBytes: 2 ** 25 });
  const x = put(backend, [1, 2], [2]);
  // More numbers than there is memory.
  const y = backend.reduce("sum", { ...x, shape: [1, 2 ** 24] }, 1);
  await expect(backend.read(y)).rejects.toMatchObject({ code: "backend" });
  expect(() => backend.unary("neg", x)).toThrow(/reduce_sum failed in the worker/);
  backend[Symbol.dispose]();
});
