/// <reference path="../generated.d.ts" />
import { UnsupportedError } from "@mamba-ts/backend";
import { type Engine, PAGE, STACK_BYTES } from "./engine.js";
import { LocalEngine } from "./local-engine.js";
import { RemoteEngine } from "./remote-engine.js";
import { canShareMemory } from "./threads.js";

/** Code, constants, the main thread's stack, and a little to start with; the other threads' stacks come on top. */
const INITIAL_BYTES = 8 * 2 ** 20;

export interface EngineOptions {
  readonly maxMemoryBytes: number;
  readonly threads: number;
  /** Fused multiply-adds, where the engine has them. */
  readonly relaxedSimd: boolean;
  /** Everything in a worker of its own. */
  readonly worker: boolean;
}

/** Compiles the kernels that this engine can run, gives them a memory, and starts workers where there are to be threads. */
export async function startEngine({ maxMemoryBytes, threads, relaxedSimd, worker }: EngineOptions): Promise<Engine> {
  if (typeof WebAssembly === "undefined")
    throw new UnsupportedError("wasm: this engine has no WebAssembly", {
      hint: "use @mamba-ts/backend-cpu; a page's content security policy must allow 'wasm-unsafe-eval'",
    });
  const initial = (INITIAL_BYTES + (threads - 1) * STACK_BYTES) / PAGE;
  const pages = { initial, maximum: Math.floor(maxMemoryBytes / PAGE) };
  const shared = threads > 1 && canShareMemory() ? sharedMemory(pages) : undefined;
  const relaxed = relaxedSimd && hasRelaxedSimd();
  const module = await compile(await moduleText(relaxed, shared !== undefined));
  const all = shared === undefined ? 1 : threads;
  if (worker)
    try {
      return await RemoteEngine.start(module, pages, shared, all, relaxed);
    } catch {
      // A page's policy may forbid workers: then the work is done here, which the backend's name of its device shows.
    }
  return LocalEngine.start(module, shared ?? new WebAssembly.Memory(pages), all, relaxed);
}

/** The module that fits, in base64. */
async function moduleText(relaxed: boolean, threads: boolean): Promise<string> {
  const { default: base64 } = await (threads
    ? relaxed
      ? import("../../generated/relaxed-threads.js")
      : import("../../generated/threads.js")
    : relaxed
      ? import("../../generated/relaxed.js")
      : import("../../generated/simd.js"));
  return base64;
}

/** Whether the engine has relaxed SIMD, and with it fused multiply-adds: asked by a function of one such instruction. */
function hasRelaxedSimd(): boolean {
  const header = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0];
  return WebAssembly.validate(Uint8Array.of(...header, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11));
}

/** Shared memory, which some systems reserve at once: undefined where there is not as much. */
function sharedMemory(pages: WebAssembly.MemoryDescriptor): WebAssembly.Memory | undefined {
  try {
    return new WebAssembly.Memory({ ...pages, shared: true });
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
