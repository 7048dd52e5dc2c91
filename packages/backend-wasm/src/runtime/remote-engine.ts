import { BackendError, DisposedError, OutOfMemoryError } from "@mamba-ts/backend";
import { type Engine, layout, PAGE } from "./engine.js";
import type { Kernels } from "./kernels.js";
import { type Pool, startPool } from "./pool.js";
import { COPY, carryOut, FILL, GROW, READ, WORDS, WRITE } from "./remote-worker.js";
import { type Started, startWorker } from "./threads.js";

/** So many numbers are sent at once; fewer when this thread has nothing else to do. */
const BATCH = 2048;

type Answer =
  | { readonly ready: { readonly heapBase: number; readonly wordsAt: number } }
  | { readonly id: number; readonly bytes: ArrayBuffer }
  | { readonly failed: { readonly op: number; readonly message: string } };

interface Reading {
  resolve(bytes: ArrayBuffer): void;
  reject(cause: Error): void;
}

/** Kernels in a worker, which gets calls in batches: this thread, a page's main one, never waits. */
export class RemoteEngine implements Engine {
  readonly inWorker = true;
  readonly kernels: Kernels;
  heapBase = 0;
  size: number;
  #wordsAt = 0;
  #queue: number[] = [];
  #data: ArrayBuffer[] = [];
  #scheduled = false;
  #failure: Error | undefined;
  #reads = 0;
  readonly #reading = new Map<number, Reading>();
  readonly #names: readonly string[];
  readonly #worker: Started;
  #pool: Pool = { threads: 1, stop: () => {} };
  readonly #ready: Promise<void>;

  private constructor(
    module: WebAssembly.Module,
    pages: WebAssembly.MemoryDescriptor,
    readonly memory: WebAssembly.Memory | undefined,
    wanted: number,
    readonly relaxed: boolean,
  ) {
    this.size = pages.initial * PAGE;
    const functions = WebAssembly.Module.exports(module).filter(({ kind }) => kind === "function");
    this.#names = functions.map(({ name }) => name);
    this.kernels = Object.fromEntries(
      this.#names.map((name, i) => [name, (...args: number[]) => this.#send(i, args)]),
    ) as unknown as Kernels;
    const { promise, resolve, reject } = deferred<{ heapBase: number; wordsAt: number }>();
    this.#worker = startWorker(
      carryOut,
      { module, memory, pages, threads: wanted },
      {
        message: (message) => {
          const answer = message as Answer;
          if ("ready" in answer) resolve(answer.ready);
          else if ("failed" in answer) this.#fail(this.#errorOf(answer.failed));
          else this.#settle(answer.id)?.resolve(answer.bytes);
        },
        end: (cause) => {
          const error = new BackendError(`wasm: the worker that runs the kernels has ended: ${causeText(cause)}`, {
            hint: "a page or a process may have run out of memory; create a new backend",
            cause,
          });
          reject(error);
          this.#fail(error);
        },
      },
    );
    this.#worker.hold(true);
    this.#ready = promise.then(({ heapBase, wordsAt }) => {
      const free = layout(heapBase, wanted);
      this.heapBase = free.heapBase;
      this.#wordsAt = wordsAt;
      if (memory !== undefined) this.#pool = startPool(module, memory, free.stacks);
      this.#worker.hold(false);
    });
  }

  /** @param memory - what threads share; without it there is one, and the worker makes its own memory. */
  static async start(
    module: WebAssembly.Module,
    pages: WebAssembly.MemoryDescriptor,
    memory: WebAssembly.Memory | undefined,
    threads: number,
    relaxed: boolean,
  ): Promise<RemoteEngine> {
    const engine = new RemoteEngine(module, pages, memory, threads, relaxed);
    await engine.#ready;
    return engine;
  }

  get threads(): number {
    return this.#pool.threads;
  }

  grow(pages: number): boolean {
    if (this.memory === undefined) this.#send(GROW, [pages]);
    else
      try {
        this.memory.grow(pages);
      } catch {
        return false;
      }
    this.size += pages * PAGE;
    return true;
  }

  write(at: number, bytes: Uint8Array): void {
    const copy = new Uint8Array(bytes.length);
    copy.set(bytes);
    this.#data.push(copy.buffer);
    this.#send(WRITE, [at, this.#data.length - 1]);
  }

  fill(at: number, count: number, byte: number): void {
    this.#send(FILL, [at, count, byte]);
  }

  copy(to: number, from: number, count: number): void {
    this.#send(COPY, [to, from, count]);
  }

  words(numbers: readonly number[]): number {
    this.#send(WORDS, numbers);
    return this.#wordsAt;
  }

  read(at: number, count: number): Promise<ArrayBuffer> {
    const { promise, resolve, reject } = deferred<ArrayBuffer>();
    try {
      const id = this.#reads++;
      this.#send(READ, [at, count, id]);
      this.#reading.set(id, { resolve, reject });
      this.#worker.hold(true);
      this.#flush();
    } catch (error) {
      reject(error as Error);
    }
    return promise;
  }

  stop(): void {
    this.#fail(new DisposedError("wasm: the backend was disposed"));
    this.#worker.stop();
    this.#pool.stop();
  }

  #send(op: number, args: readonly number[]): void {
    if (this.#failure !== undefined) throw this.#failure;
    this.#queue.push(op, args.length, ...args);
    if (this.#queue.length >= BATCH) this.#flush();
    if (this.#scheduled) return;
    this.#scheduled = true;
    // What is sent together costs one message.
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#queue.length === 0 || this.#failure !== undefined) return;
    const [numbers, data] = [Float64Array.from(this.#queue), this.#data];
    this.#queue = [];
    this.#data = [];
    this.#worker.post({ numbers, data }, [numbers.buffer, ...data]);
  }

  #settle(id: number): Reading | undefined {
    const reading = this.#reading.get(id);
    this.#reading.delete(id);
    if (this.#reading.size === 0) this.#worker.hold(false);
    return reading;
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const id of [...this.#reading.keys()]) this.#settle(id)!.reject(error);
  }

  #errorOf({ op, message }: { readonly op: number; readonly message: string }): Error {
    if (op === GROW)
      return new OutOfMemoryError(`wasm: no memory for what was asked for: ${message}`, {
        hint: "use a smaller batch, shorter chunks, or weights in bf16 or q8_0; create a new backend",
      });
    return new BackendError(`wasm: ${this.#names[op] ?? "moving bytes"} failed in the worker: ${message}`, {
      hint: "a thread may have died; create a new backend, and report it if it happens again",
    });
  }
}

function causeText(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

function deferred<T>(): { promise: Promise<T>; resolve(value: T): void; reject(cause: Error): void } {
  let resolve!: (value: T) => void;
  let reject!: (cause: Error) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
