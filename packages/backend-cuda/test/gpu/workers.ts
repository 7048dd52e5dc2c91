/** Two backends in one process, and two more in worker threads, at work at the same time: the same results, bit for bit: `node workers.mjs`. */
import { isMainThread, parentPort, Worker } from "node:worker_threads";
import { BackendMismatchError } from "@mamba-ts/backend";
import { add, tensor } from "@mamba-ts/tensor";
import { type CudaBackend, createBackend } from "../../src/index.js";
import { allFinite, sameBits, work } from "./support/small-work.js";

const nativeFolder = process.env["MAMBA_TS_CUDA_NATIVE"];
const open = (): Promise<CudaBackend> => createBackend(nativeFolder === undefined ? {} : { nativeFolder });

if (!isMainThread) {
  const backend = await open();
  parentPort!.postMessage(await work(backend));
  backend[Symbol.dispose]();
} else {
  const inWorker = (): Promise<Float32Array[]> =>
    new Promise((resolve, reject) => {
      const worker = new Worker(new URL(import.meta.url));
      worker.once("message", resolve);
      worker.once("error", reject);
    });
  const [one, two] = [await open(), await open()];
  console.log(one.device);
  let ticks = 0;
  const timer = setInterval(() => ticks++, 1);
  const all = await Promise.all([work(one), work(two), inWorker(), inWorker()]);
  clearInterval(timer);
  const ok = all.every((found) => sameBits(found, all[0]!)) && allFinite(all[0]!);
  console.log(
    `${ok ? "ok    " : "FAILED"} four backends, two in workers: the same ${all[0]!.length} results; the event loop ran ${ticks} times meanwhile`,
  );
  const [a, b] = [tensor(one, Float32Array.of(1)), tensor(two, Float32Array.of(1))];
  let refused = false;
  try {
    add(a, b);
  } catch (error) {
    refused = error instanceof BackendMismatchError;
  }
  console.log(`${refused ? "ok    " : "FAILED"} tensors of two backends do not mix`);
  a.dispose();
  b.dispose();
  one[Symbol.dispose]();
  // The other goes on.
  const again = await work(two);
  console.log(`${sameBits(again, all[0]!) ? "ok    " : "FAILED"} one backend works on when the other is disposed`);
  // What is live when a backend is disposed goes back to the driver; a read that is under way ends before.
  const free = (): number => two.cuda.native.memInfo()[0];
  const three = await open();
  three.alloc(4 * 2 ** 30, "float32");
  const reading = three.read(three.upload(Float32Array.of(1, 2), "float32"));
  const during = free();
  three[Symbol.dispose]();
  const [, second] = new Float32Array(await reading);
  const returned = (free() - during) / 2 ** 30;
  const isReturned = second === 2 && returned > 15;
  console.log(`${isReturned ? "ok    " : "FAILED"} disposing returned ${returned.toFixed(2)} of 16 GiB that were live`);
  two[Symbol.dispose]();
  process.exitCode = ok && refused && sameBits(again, all[0]!) && isReturned ? 0 : 1;
}
