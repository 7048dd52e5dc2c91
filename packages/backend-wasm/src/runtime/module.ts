/// <reference path="../generated.d.ts" />
import { UnsupportedError } from "@mamba-ts/backend";
import { guarded, type Kernels } from "./kernels.js";
import { canShareMemory, mayWait, type Stop, startWorker } from "./threads.js";

export interface Instance {
  readonly kernels: Kernels;
  readonly memory: WebAssembly.Memory;
  /** The first address that is free. */
  readonly heapBase: number;
  /** Where lists of numbers for the next call go. */
  readonly wordsAt: number;
  /** This thread included. */
  readonly threads: number;
  /** Whether multiply-adds are fused. */
  readonly relaxed: boolean;
  /** Ends the workers. */
  stop(): void;
}

const PAGE = 65536;
/** As the linker gives the main thread. */
const STACK_BYTES = 2 ** 19;
/** Code, constants, the main thread's stack, and a little to start with; the workers' stacks come on top. */
const INITIAL_BYTES = 8 * 2 ** 20;

/** Compiles the kernels that this engine can run, gives them a memory, and starts workers where there are to be threads. */
export async function instantiate(maxMemoryBytes: number, wantedThreads: number): Promise<Instance> {
  if (typeof WebAssembly === "undefined")
    throw new UnsupportedError("wasm: this engine has no WebAssembly", {
      hint: "use @mamba-ts/backend-cpu; a page's content security policy must allow 'wasm-unsafe-eval'",
    });
  const memory = wantedThreads > 1 && canShareMemory() ? sharedMemory(maxMemoryBytes, wantedThreads) : undefined;
  const relaxed = hasRelaxedSimd();
  if (memory === undefined) {
    const { default: base64 } = await (relaxed
      ? import("../../generated/relaxed.js")
      : import("../../generated/simd.js"));
    return start(await compile(base64), new WebAssembly.Memory(pages(maxMemoryBytes, 1)), 1, relaxed);
  }
  const { default: base64 } = await (relaxed
    ? import("../../generated/relaxed-threads.js")
    : import("../../generated/threads.js"));
  return start(await compile(base64), memory, wantedThreads, relaxed);
}

/** Whether the engine has relaxed SIMD, and with it fused multiply-adds: asked by a function of one such instruction. */
function hasRelaxedSimd(): boolean {
  const header = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0];
  return WebAssembly.validate(Uint8Array.of(...header, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11));
}

function pages(maxMemoryBytes: number, threads: number): { initial: number; maximum: number } {
  return { initial: (INITIAL_BYTES + (threads - 1) * STACK_BYTES) / PAGE, maximum: Math.floor(maxMemoryBytes / PAGE) };
}

/** Shared memory, which some systems reserve at once: undefined where there is not as much. */
function sharedMemory(maxMemoryBytes: number, threads: number): WebAssembly.Memory | undefined {
  try {
    return new WebAssembly.Memory({ ...pages(maxMemoryBytes, threads), shared: true });
  } catch {
    return undefined;
  }
}

async function compile(base64: string): Promise<WebAssembly.Module> {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  try {
    return await WebAssembly.compile(bytes);
  } catch (cause) {
    throw new UnsupportedError("wasm: this engine cannot compile the kernels: it may lack SIMD", {
      hint: "Node 20, Chrome 91, Firefox 89, Safari 16.4 or later; or use @mamba-ts/backend-cpu",
      cause,
    });
  }
}

async function start(
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
  threads: number,
  relaxed: boolean,
): Promise<Instance> {
  const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
  const kernels = guarded(exports);
  const base = (exports["__heap_base"] as WebAssembly.Global).value as number;
  const firstStack = Math.ceil(base / PAGE) * PAGE;
  const heapBase = firstStack + (threads - 1) * STACK_BYTES;
  // The heap begins with a page at least: the stacks of many workers are more than there is at first.
  const missing = heapBase + PAGE - memory.buffer.byteLength;
  if (missing > 0) memory.grow(Math.ceil(missing / PAGE));
  const workers: Stop[] = [];
  if (threads > 1) {
    kernels.set_threads(threads, mayWait() ? 1 : 0);
    for (let i = 1; i < threads; i++)
      workers.push(startWorker({ module, memory, stack: firstStack + i * STACK_BYTES }));
  }
  return {
    kernels,
    memory,
    heapBase,
    wordsAt: (exports["words_at"] as () => number)(),
    threads,
    relaxed,
    stop: () => {
      if (threads > 1) kernels.stop();
      for (const stop of workers) stop();
    },
  };
}
