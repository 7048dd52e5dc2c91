/**
 * All GPUs of a machine at work at the same time, in one process and in worker threads, with what a backend or a thread that ends leaves to the others: `node devices.mjs`.
 * On a machine with one GPU it says what it cannot show.
 */
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { BackendMismatchError, DisposedError, isMambaError } from "@mamba-ts/backend";
import { add, tensor } from "@mamba-ts/tensor";
import { type CudaBackend, createBackend } from "../../src/index.js";
import { allFinite, decode, sameBits, work } from "./support/small-work.js";

const nativeFolder = process.env["MAMBA_TS_CUDA_NATIVE"];
const open = (device: number): Promise<CudaBackend> =>
  createBackend({ device, ...(nativeFolder === undefined ? {} : { nativeFolder }) });

/** An eighth of a device's memory: what is not given back is missed before long. */
const eighth = (backend: CudaBackend): number => Math.floor(backend.cuda.info.totalBytes / 8 / 4);
const TIMES = 10;

if (!isMainThread) {
  const { device, isEndless } = workerData as { device: number; isEndless: boolean };
  const backend = await open(device);
  if (isEndless) {
    backend.alloc(eighth(backend), "float32");
    for (let i = 0; ; i++) {
      await work(backend, 1);
      if (i === 0) parentPort!.postMessage("at work");
    }
  }
  parentPort!.postMessage(await work(backend));
  backend[Symbol.dispose]();
} else await main();

function workerOn(device: number, isEndless: boolean): { worker: Worker; message: Promise<unknown> } {
  const worker = new Worker(new URL(import.meta.url), { workerData: { device, isEndless } });
  const message = new Promise((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
  return { worker, message };
}

async function openAll(): Promise<CudaBackend[]> {
  const found: CudaBackend[] = [];
  for (;;)
    try {
      found.push(await open(found.length));
    } catch (error) {
      if (found.length === 0 || !isMambaError(error, "unsupported")) throw error;
      return found;
    }
}

async function main(): Promise<void> {
  const start = performance.now();
  let failed = 0;
  const check = (what: string, ok: boolean): void => {
    if (!ok) failed++;
    console.log(`${ok ? "ok    " : "FAILED"} ${what} (${((performance.now() - start) / 1000).toFixed(1)} s)`);
  };
  const isRefused = (fn: () => unknown, how: new (...args: never[]) => Error): boolean => {
    try {
      fn();
      return false;
    } catch (error) {
      return error instanceof how;
    }
  };
  const all = await openAll();
  for (const [i, { device, cuda }] of all.entries())
    console.log(`${i}: ${device}, ${cuda.hasCufft ? "cuFFT" : "no cuFFT"}`);
  const first = all[0]!;
  const others = all.slice(1);
  const last = all.at(-1)!;

  const [alone, decodedAlone] = [await work(first), await decode(first, true)];
  check("device 0 alone: finite", allFinite(alone) && allFinite(decodedAlone));
  check(
    "device 0 alone: a recorded step gives what running it gives",
    sameBits(decodedAlone, await decode(first, false)),
  );
  /** The same bits; of another model of card, whose chunks and products are others, finite numbers. */
  const isRight = (i: number, found: Float32Array[], want: Float32Array[]): boolean =>
    all[i]!.cuda.info.name === first.cuda.info.name
      ? sameBits(found, want)
      : allFinite(found) && found.length === want.length;

  const inWorkers = all.map((_, i) => workerOn(i, false).message as Promise<Float32Array[]>);
  const here = await Promise.all(all.map((backend) => work(backend)));
  const there = await Promise.all(inWorkers);
  for (const i of all.keys()) {
    check(`device ${i} in this process, all at work: the results of device 0 alone`, isRight(i, here[i]!, alone));
    check(
      `device ${i} in a worker thread at the same time: the results of device 0 alone`,
      isRight(i, there[i]!, alone),
    );
  }
  const decoded = await Promise.all(all.map((backend) => decode(backend, true)));
  for (const i of all.keys())
    check(`device ${i}: a graph of its own, replayed by turns`, isRight(i, decoded[i]!, decodedAlone));

  const size = 2 ** 26;
  for (const [i, backend] of all.entries()) {
    const buf = backend.alloc(size / 4, "float32");
    const counted = all.map((b) => b.memory().liveBytes);
    check(
      `device ${i}: what it holds is counted there alone`,
      counted.every((n, k) => n === (k === i ? size : 0)),
    );
    backend.free(buf);
  }

  for (const [i, other] of others.entries()) {
    const [a, b] = [tensor(first, Float32Array.of(1)), tensor(other, Float32Array.of(1))];
    const operand = { buf: b.buf, offset: 0, rowStride: 1, shape: [1], dtype: "float32" as const };
    const isTyped = isRefused(() => add(a, b), BackendMismatchError);
    check(
      `device ${i + 1}: its tensors do not mix with device 0's, its buffers neither`,
      isTyped && isRefused(() => first.unary("exp", operand), BackendMismatchError),
    );
    for (const t of [a, b]) t.dispose();
  }

  const data = Float32Array.from({ length: 2 ** 20 }, (_, i) => i);
  let delivered = true;
  for (let i = 0; i < TIMES; i++) {
    const more = await open(all.length - 1);
    more.alloc(eighth(more), "float32");
    const buf = more.upload(data, "float32");
    const read = more.read(buf);
    more[Symbol.dispose]();
    delivered &&= Buffer.from(await read).equals(Buffer.from(data.buffer));
    delivered &&= isRefused(() => more.alloc(1, "float32"), DisposedError);
    delivered &&= await more.read(buf).then(
      () => false,
      (error: unknown) => error instanceof DisposedError,
    );
  }
  check(
    `a backend that is disposed delivers what is being read, refuses more, and gives its memory back, ${TIMES} times`,
    delivered,
  );

  for (let i = 0; i < TIMES; i++) {
    const { worker, message } = workerOn(all.length - 1, true);
    await message;
    await worker.terminate();
  }
  check(`a worker thread that is ended at work gives its memory back, ${TIMES} times`, true);
  check("and leaves the others", isRight(all.length - 1, await work(last), alone));

  if (others.length > 0) {
    const going = all.slice(0, -1).map((backend) => work(backend));
    last[Symbol.dispose]();
    const found = await Promise.all(going);
    check(
      "the others, at work, do not mind that the last is disposed",
      found.every((f, i) => isRight(i, f, alone)),
    );
    const again = await open(all.length - 1);
    check("the last, opened again", isRight(all.length - 1, await work(again), alone));
    again[Symbol.dispose]();
    for (const backend of all.slice(0, -1)) backend[Symbol.dispose]();
  } else {
    last[Symbol.dispose]();
    const what = [
      "several devices at work at the same time",
      "memory counted by device",
      "tensors of two devices",
      "one disposed while others work",
    ];
    console.log(`one GPU only; not shown: ${what.join("; ")}`);
  }
  console.log(`${all.length} devices, ${failed} failed`);
  process.exitCode = failed > 0 ? 1 : 0;
}
