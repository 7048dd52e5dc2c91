import {
  API_VERSION,
  type Backend,
  dtypeLayout,
  type FusedOps,
  InvalidArgumentError,
  UnsupportedError,
} from "@mamba-ts/backend";
import { captureOn } from "./capture.js";
import { fusedOps } from "./fused/index.js";
import { argReduce, gather, linearScan, reduce, scatterAdd } from "./primitives/axis.js";
import { cast, fill } from "./primitives/cast.js";
import { binary, compare, unary, where } from "./primitives/elementwise.js";
import { matmul } from "./primitives/matmul.js";
import { concat, copy, pad } from "./primitives/move.js";
import type { Engine } from "./runtime/engine.js";
import { byteLengthOf, dtypes, WasmMemory } from "./runtime/memory.js";
import { startEngine } from "./runtime/module.js";
import { canShareMemory, defaultThreads, mayWait } from "./runtime/threads.js";

export interface WasmBackendOptions {
  /** Replaces the fused ops; `{}` leaves every operation to its composition. */
  readonly fused?: FusedOps;
  /** All memory together, in bytes: 4 GiB, the most there is, by default. */
  readonly maxMemoryBytes?: number;
  /** Threads, this one included: as many as there are cores, at most 16, by default. One where memory cannot be shared. */
  readonly threads?: number;
  /** Runs everything in a worker of its own, and never makes this thread wait: on a page's main thread by default. */
  readonly worker?: boolean;
  /** false: no fused multiply-adds, even where the engine has them, so that results are those of engines that have not. */
  readonly relaxedSimd?: boolean;
  /** Fills every new buffer with NaN first: shows operations that do not write all of their result. For tests. */
  readonly poison?: boolean;
}

const [LEAST_BYTES, MOST_BYTES] = [2 ** 25, 2 ** 32];
const MOST_THREADS = 16;

/**
 * The default backend: WebAssembly with 128-bit SIMD and threads, in Node and in browsers. Float32, with weights in bf16, f16 and q8_0.
 * Results are the same for any number of threads.
 * @throws UnsupportedError where the engine has no WebAssembly SIMD
 */
export async function createBackend({
  fused,
  maxMemoryBytes = MOST_BYTES,
  threads = Math.min(defaultThreads(), MOST_THREADS),
  worker = !mayWait(),
  relaxedSimd = true,
  poison = false,
}: WasmBackendOptions = {}): Promise<Backend> {
  if (!(maxMemoryBytes >= LEAST_BYTES && maxMemoryBytes <= MOST_BYTES))
    throw new InvalidArgumentError(`createBackend: maxMemoryBytes is ${maxMemoryBytes}, not between 2^25 and 2^32`);
  if (!(Number.isInteger(threads) && threads >= 1 && threads <= MOST_THREADS))
    throw new InvalidArgumentError(`createBackend: threads is ${threads}, not between 1 and ${MOST_THREADS}`);
  const engine = await startEngine({ maxMemoryBytes, threads, worker, relaxedSimd });
  const memory = new WasmMemory(engine, { maxMemoryBytes, poison });
  return {
    name: "wasm",
    apiVersion: API_VERSION,
    device: deviceName(engine, threads, worker),
    dtypes,
    preferredWeightDtype: "float32",
    limits: { maxBufferBytes: maxMemoryBytes },
    fused: fused ?? fusedOps(memory),
    memory: () => memory.use,
    ...storage(engine, memory),
    capture: (fn) => captureOn(memory, fn),

    fill: (shape, value, dtype) => fill(memory, shape, value, dtype),
    copy: (view) => copy(memory, view),
    cast: (x, to) => cast(memory, x, to),
    unary: (op, x) => unary(memory, op, x),
    binary: (op, a, b) => binary(memory, op, a, b),
    compare: (op, a, b) => compare(memory, op, a, b),
    where: (cond, a, b) => where(memory, cond, a, b),
    reduce: (op, x, axis) => reduce(memory, op, x, axis),
    argReduce: (op, x, axis) => argReduce(memory, op, x, axis),
    matmul: (a, b, options) => matmul(memory, a, b, options),
    gather: (x, indices, axis) => gather(memory, x, indices, axis),
    scatterAdd: (shape, indices, updates, axis) => scatterAdd(memory, shape, indices, updates, axis),
    pad: (x, axis, before, after) => pad(memory, x, axis, before, after),
    concat: (xs, axis) => concat(memory, xs, axis),
    linearScan: (a, b, axis, reverse) => linearScan(memory, a, b, axis, reverse),
    [Symbol.dispose]() {
      memory.dispose();
      engine.stop();
    },
  };
}

/** Bytes go in beside a capture that is being recorded: what is uploaded meanwhile is a constant of it. */
function storage(
  engine: Engine,
  memory: WasmMemory,
): Pick<Backend, "alloc" | "upload" | "write" | "read" | "free" | "synchronize"> {
  return {
    alloc: (count, dtype) => memory.alloc(count, dtype),
    upload(data, dtype) {
      const { elements, bytes } = dtypeLayout[dtype];
      const buf = memory.alloc((data.byteLength / bytes) * elements, dtype);
      engine.write(buf.at, bytesOf(data));
      return buf;
    },
    write(buf, data, start = 0) {
      const own = memory.own(buf);
      const at = byteLengthOf(start, own.dtype);
      if (at + data.byteLength > own.bytes)
        throw new InvalidArgumentError(
          `wasm: writing ${data.byteLength} bytes at element ${start} of ${own.count} ${own.dtype}`,
        );
      if (memory.isRecording)
        throw new UnsupportedError("wasm: write inside a capture", {
          hint: "write between replays, to the tensors that the captured function reads",
        });
      engine.write(own.at + at, bytesOf(data));
    },
    async read(buf, start = 0, count = buf.count - start) {
      const own = memory.own(buf);
      if (!(start >= 0 && count >= 0 && start + count <= own.count))
        throw new InvalidArgumentError(`wasm: reading ${count} elements from ${start} on of ${own.count}`);
      const at = byteLengthOf(start, own.dtype);
      return memory.engine.read(own.at + at, byteLengthOf(count, own.dtype));
    },
    free: (buf) => memory.free(buf),
    async synchronize() {
      await memory.engine.read(0, 0);
    },
  };
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function deviceName({ threads, relaxed, inWorker }: Engine, wanted: number, wantsWorker: boolean): string {
  const version = (globalThis as { process?: { version?: string } }).process?.version;
  const engine = version === undefined ? (globalThis.navigator?.userAgent ?? "JavaScript") : `Node ${version}`;
  const missing = [
    ...(threads < wanted ? [canShareMemory() ? "no more could be started" : "memory cannot be shared here"] : []),
    ...(wantsWorker && !inWorker ? ["no worker could be started"] : []),
  ];
  const why = missing.length > 0 ? ` (${missing.join("; ")})` : "";
  return `${engine}, WebAssembly ${relaxed ? "relaxed " : ""}SIMD, ${threads === 1 ? "one thread" : `${threads} threads`}${inWorker ? " in a worker" : ""}${why}`;
}
