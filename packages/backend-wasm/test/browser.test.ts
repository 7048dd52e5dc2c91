// In a page: each way the backend can run there. Elsewhere these are left out; the same ways are tested in Node where it has them.
import { composedOnly, runCase } from "@mamba-ts/backend-testing";
import { beforeEach, describe, expect, test } from "vitest";
import { createBackend, type WasmBackendOptions } from "../src/index.js";
import { casesOfEachOp, operandOf, put } from "./support.js";

const isPage = typeof document !== "undefined";
const isIsolated = (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated === true;

async function conform(options: WasmBackendOptions, device: readonly string[]): Promise<void> {
  const backend = await createBackend({ ...options, poison: true });
  for (const words of device) expect(backend.device).toContain(words);
  const cases = casesOfEachOp();
  expect(cases.length).toBeGreaterThan(30);
  for (const each of cases)
    for (const subject of [backend, composedOnly(backend)]) expect(await runCase(each, subject), each.name).toEqual([]);
  expect(backend.memory().liveBuffers).toBe(0);
  backend[Symbol.dispose]();
}

describe("in a page", () => {
  beforeEach(({ skip }) => skip(!isPage, "runs in a page"));

  test("every operation conforms, as the backend comes", () =>
    conform({}, [isIsolated ? "threads in a worker" : "one thread in a worker (memory cannot be shared here)"]));

  describe("that is cross-origin isolated", () => {
    beforeEach(({ skip }) => skip(!isIsolated, "the page is not cross-origin isolated"));

    test("threads, plain SIMD", () => conform({ threads: 2, relaxedSimd: false }, ["WebAssembly SIMD, 2 threads"]));
    test("threads, relaxed SIMD", () => conform({ threads: 2 }, ["relaxed SIMD, 2 threads"]));
    test("threads, on the page's own thread", () => conform({ threads: 2, worker: false }, ["2 threads"]));
    test("one thread, plain SIMD", () => conform({ threads: 1, relaxedSimd: false }, ["WebAssembly SIMD, one thread"]));
    test("one thread, relaxed SIMD", () => conform({ threads: 1 }, ["relaxed SIMD, one thread"]));
  });

  test("the page goes on while the backend works", async () => {
    const backend = await createBackend();
    const n = 512;
    const x = put(backend, new Float32Array(n * n).fill(1 / n), [n, n]);
    const order: string[] = [];
    let product = x;
    // Seconds of work, asked for at once.
    for (let i = 0; i < 40; i++)
      product = operandOf(backend.matmul(product, x, { transA: false, transB: false, out: "float32" }), [n, n]);
    const result = backend.read(product.buf).then((bytes) => {
      order.push("result");
      return new Float32Array(bytes);
    });
    await new Promise<void>((resolve) => setTimeout(resolve));
    order.push("page");
    expect((await result)[7]).toBeCloseTo(1 / n, 6);
    expect(order).toEqual(["page", "result"]);
    backend[Symbol.dispose]();
  });
});
