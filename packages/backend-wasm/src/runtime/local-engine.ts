import { type Engine, layout } from "./engine.js";
import { guarded, type Kernels } from "./kernels.js";
import { type Pool, startPool } from "./pool.js";
import { mayWait } from "./threads.js";

/** Kernels in this thread: a call is over when it returns. */
export class LocalEngine implements Engine {
  readonly inWorker = false;
  readonly heapBase: number;
  readonly kernels: Kernels;
  readonly #wordsAt: number;
  readonly #pool: Pool;
  #u8: Uint8Array;
  #i32: Int32Array;

  private constructor(
    readonly memory: WebAssembly.Memory,
    exports: WebAssembly.Exports,
    module: WebAssembly.Module,
    wanted: number,
    readonly relaxed: boolean,
  ) {
    this.kernels = guarded(exports);
    const { stacks, heapBase } = layout((exports["__heap_base"] as WebAssembly.Global).value as number, wanted);
    this.heapBase = heapBase;
    this.#wordsAt = (exports["words_at"] as () => number)();
    this.#pool = startPool(module, memory, stacks);
    if (wanted > 1) this.kernels.set_threads(this.threads, mayWait() ? 1 : 0);
    this.#u8 = new Uint8Array(memory.buffer);
    this.#i32 = new Int32Array(memory.buffer);
  }

  static async start(
    module: WebAssembly.Module,
    memory: WebAssembly.Memory,
    threads: number,
    relaxed: boolean,
  ): Promise<LocalEngine> {
    const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
    return new LocalEngine(memory, exports, module, threads, relaxed);
  }

  get threads(): number {
    return this.#pool.threads;
  }

  get size(): number {
    return this.#u8.length;
  }

  grow(pages: number): boolean {
    try {
      this.memory.grow(pages);
    } catch {
      return false;
    }
    this.#u8 = new Uint8Array(this.memory.buffer);
    this.#i32 = new Int32Array(this.memory.buffer);
    return true;
  }

  write(at: number, bytes: Uint8Array): void {
    this.#u8.set(bytes, at);
  }

  fill(at: number, count: number, byte: number): void {
    this.#u8.fill(byte, at, at + count);
  }

  copy(to: number, from: number, count: number): void {
    this.#u8.copyWithin(to, from, from + count);
  }

  words(numbers: readonly number[]): number {
    this.#i32.set(numbers, this.#wordsAt / 4);
    return this.#wordsAt;
  }

  async read(at: number, count: number): Promise<ArrayBuffer> {
    // A copy in memory that is not shared.
    return this.#u8.slice(at, at + count).buffer as ArrayBuffer;
  }

  stop(): void {
    if (this.threads > 1) this.kernels.stop();
    this.#pool.stop();
  }
}
