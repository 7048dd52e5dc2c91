import { isMambaError } from "@mamba-ts/backend";
import { beforeEach, expect, test, vi } from "vitest";
import { createBackend } from "../src/backend.js";
import type { NativeDevice } from "../src/native.js";

// No GPU is needed: a device that only keeps account of its memory and graphs, and refuses what the driver would crash on.

class Account {
  readonly memory = new Set<number>();
  readonly graphs = new Set<number>();
  isClosed = false;
  isBroken = false;
  #next = 512;
  /** Ends the copies to the host that wait. */
  finish: (() => void)[] = [];

  info = () => ({ name: "account", totalBytes: 2 ** 30, driver: 13000, multiprocessors: 1, major: 9, minor: 0 });
  memInfo = (): [number, number] => [2 ** 30, 2 ** 30];
  openCublas = () => false;
  openCufft = () => false;
  copyIn = () => this.#open();
  beginCapture = () => this.#open();
  launchGraph = (graph: number) => {
    this.#open();
    if (!this.graphs.has(graph)) throw new Error(`there is no graph ${graph}`);
  };
  endCapture = () => this.#give(this.graphs);
  destroyGraph = (graph: number) => {
    this.#open();
    if (!this.graphs.delete(graph)) throw new Error(`there is no graph ${graph}`);
  };
  alloc = () => this.#give(this.memory);
  release = (address: number) => {
    this.#open();
    if (this.isBroken) throw new Error("cuMemFree: CUDA_ERROR_ILLEGAL_ADDRESS");
    if (!this.memory.delete(address)) throw new Error(`${address} is not allocated`);
  };
  copyOut = (_: number, bytes: number) => {
    this.#open();
    return new Promise<ArrayBuffer>((resolve) => this.finish.push(() => resolve(new ArrayBuffer(bytes))));
  };
  synchronize = async () => this.#open();
  close = () => {
    if (this.finish.length > 0) throw new Error("closed while a copy was under way");
    this.isClosed = true;
    this.graphs.clear();
  };

  #open(): void {
    if (this.isClosed) throw new Error("the device is closed");
  }
  #give(to: Set<number>): number {
    this.#open();
    this.#next += 512;
    to.add(this.#next);
    return this.#next;
  }
}

let account: Account;
beforeEach(() => {
  account = new Account();
});
vi.mock("../src/native.js", async (original) => ({
  ...(await original<object>()),
  openDevice: () => account as unknown as NativeDevice,
}));

const open = () => createBackend({ nativeFolder: "nowhere" });
const disposed = (error: unknown): boolean => isMambaError(error, "disposed");
const thrownBy = (f: () => unknown): unknown => {
  try {
    f();
  } catch (error) {
    return error;
  }
  return undefined;
};

test("a disposed backend gives live, idle and captured memory back", async () => {
  const backend = await open();
  const live = [backend.alloc(10, "float32"), backend.upload(new Float32Array(4), "float32")];
  backend.free(backend.alloc(5000, "float32"));
  const capture = backend.capture!(() => backend.free(backend.alloc(7000, "int32")));
  expect(account.memory.size).toBeGreaterThanOrEqual(4);
  backend[Symbol.dispose]();
  expect(account.memory.size).toBe(0);
  expect(account.isClosed).toBe(true);
  // All of it may be disposed later, in any order.
  backend[Symbol.dispose]();
  capture[Symbol.dispose]();
  capture[Symbol.dispose]();
  for (const buf of live) backend.free(buf);
  expect(backend.memory()).toEqual({ liveBuffers: 0, liveBytes: 0 });
});

test("what is used afterwards throws DisposedError", async () => {
  const backend = await open();
  const buf = backend.upload(new Float32Array(4), "float32");
  const capture = backend.capture!(() => {});
  backend[Symbol.dispose]();
  const x = { buf, offset: 0, rowStride: 4, shape: [4], dtype: "float32" } as const;
  for (const use of [
    () => backend.alloc(1, "float32"),
    () => backend.upload(new Float32Array(1), "float32"),
    () => backend.write(buf, new Float32Array(1)),
    () => backend.unary("exp", x),
    () => backend.capture!(() => {}),
    () => capture.replay(),
  ])
    expect(disposed(thrownBy(use)), String(use)).toBe(true);
  await expect(backend.read(buf)).rejects.toSatisfy(disposed);
  await expect(backend.synchronize()).rejects.toSatisfy(disposed);
});

test("a capture that has been disposed is not replayed", async () => {
  const backend = await open();
  const capture = backend.capture!(() => {});
  capture.replay();
  capture[Symbol.dispose]();
  expect(disposed(thrownBy(() => capture.replay()))).toBe(true);
  expect(account.graphs.size).toBe(0);
  backend[Symbol.dispose]();
});

test("reads that are under way end first", async () => {
  const backend = await open();
  const buf = backend.upload(new Float32Array(4), "float32");
  const reads = [backend.read(buf), backend.read(buf, 0, 2)];
  backend[Symbol.dispose]();
  expect([account.isClosed, account.memory.size]).toEqual([false, 1]);
  account.finish.shift()!();
  expect((await reads[0]!).byteLength).toBe(16);
  expect(account.isClosed).toBe(false);
  account.finish.shift()!();
  expect((await reads[1]!).byteLength).toBe(8);
  expect([account.isClosed, account.memory.size]).toEqual([true, 0]);
});

test("after a fault of the device, disposing does not throw another error", async () => {
  const backend = await open();
  backend.alloc(4, "float32");
  account.isBroken = true;
  backend[Symbol.dispose]();
  expect(account.isClosed).toBe(true);
});
