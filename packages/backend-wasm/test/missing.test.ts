// What a machine or an engine may lack, and threads that die: a slower way that the device's name tells, or a typed error.
import { afterEach, expect, test, vi } from "vitest";
import { createBackend } from "../src/index.js";
import { put, take } from "./support.js";

type Threads = typeof import("node:worker_threads");
const threads = (process as unknown as { getBuiltinModule(name: string): Threads }).getBuiltinModule(
  "node:worker_threads",
);
const started: InstanceType<Threads["Worker"]>[] = [];
const RealWorker = threads.Worker;

type Arguments = ConstructorParameters<Threads["Worker"]>;

function workers(make: (...args: Arguments) => InstanceType<Threads["Worker"]>): void {
  vi.spyOn(threads, "Worker").mockImplementation(function (this: unknown, ...args: Arguments) {
    const worker = make(...args);
    started.push(worker);
    return worker;
  } as never);
}

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
  started.length = 0;
});

/** The backend works: a sum that several threads would share. */
async function works(backend: Awaited<ReturnType<typeof createBackend>>): Promise<void> {
  const x = put(backend, new Float32Array(100_000).fill(2), [100, 1000]);
  expect(await take(backend, backend.reduce("sum", x, 1))).toEqual(new Array(100).fill(2000));
  backend[Symbol.dispose]();
}

test("without WebAssembly, or without SIMD", async () => {
  vi.stubGlobal("WebAssembly", undefined);
  await expect(createBackend()).rejects.toMatchObject({
    code: "unsupported",
    hint: expect.stringContaining("backend-cpu"),
  });
  vi.unstubAllGlobals();
  vi.spyOn(WebAssembly, "compile").mockRejectedValue(new WebAssembly.CompileError("invalid numeric opcode 0xfd"));
  await expect(createBackend()).rejects.toMatchObject({
    code: "unsupported",
    hint: expect.stringContaining("Node 20"),
  });
});

test("without shared memory, or without as much", async () => {
  vi.stubGlobal("SharedArrayBuffer", undefined);
  const alone = await createBackend({ threads: 2 });
  expect(alone.device).toContain("one thread (memory cannot be shared here)");
  await works(alone);
  vi.unstubAllGlobals();
  const { Memory } = WebAssembly;
  class Scarce extends Memory {
    constructor(descriptor: WebAssembly.MemoryDescriptor) {
      if (descriptor.shared === true) throw new RangeError("could not allocate memory");
      super(descriptor);
    }
  }
  vi.stubGlobal("WebAssembly", Object.create(WebAssembly, { Memory: { value: Scarce } }));
  const small = await createBackend({ threads: 2 });
  expect(small.device).toContain("one thread (no more could be started)");
  await works(small);
});

test("threads that cannot be started", async () => {
  workers(() => {
    throw new Error("no more threads");
  });
  const here = await createBackend({ threads: 4 });
  expect(here.device).toContain("one thread (no more could be started)");
  await works(here);
  const worker = await createBackend({ threads: 1, worker: true });
  expect(worker.device).toContain("one thread (no worker could be started)");
  await works(worker);
});

test("threads that end before they have begun: the others do their work", async () => {
  workers((_, options) => new RealWorker("process.exit(1)", { ...options, eval: true }));
  await works(await createBackend({ threads: 3 }));
});

test("the worker that runs everything dies: what waits for it is rejected, and what comes after refused", async () => {
  workers((...args) => new RealWorker(...args));
  const backend = await createBackend({ threads: 1, worker: true });
  const x = put(backend, [1, 2], [2]);
  expect(await take(backend, backend.unary("neg", x))).toEqual([-1, -2]);
  const ended = started[0]!.terminate();
  await expect(backend.read(x.buf)).rejects.toMatchObject({
    code: "backend",
    message: expect.stringContaining("ended"),
  });
  await ended;
  expect(() => backend.unary("neg", x)).toThrow(/the worker that runs the kernels has ended/);
  backend.free(x.buf);
  expect(backend.memory().liveBuffers).toBe(0);
  backend[Symbol.dispose]();
});

test("a kernel that traps, in whichever thread, is a typed error, and ends the backend", async () => {
  for (const count of [1, 2]) {
    const backend = await createBackend({ threads: count, maxMemoryBytes: 2 ** 25 });
    const x = put(backend, [1, 2], [2]);
    // Rows of more numbers than there is memory.
    expect(() => backend.reduce("sum", { ...x, shape: [64, 2 ** 24] }, 1)).toThrow(/kernel reduce_sum/);
    expect(() => backend.unary("neg", x)).toThrow(/create a new backend/);
    backend[Symbol.dispose]();
  }
});
