import { UnsupportedError } from "@mamba-ts/backend";
import type { Engine } from "./engine.js";
import type { Kernels } from "./kernels.js";

type Kernel = (...args: number[]) => unknown;

/** An engine that keeps everything it is asked to do, and does it. What stood at a fixed address, words, gets a place of its own. */
export class Recording implements Engine {
  readonly kernels: Kernels;
  readonly #replayed: (() => void)[] = [];

  /** @param take - memory for words, which stays while the recording is used */
  constructor(
    readonly engine: Engine,
    readonly take: (bytes: number) => number,
  ) {
    const kernels = Object.entries(engine.kernels as unknown as { readonly [name: string]: Kernel });
    this.kernels = Object.fromEntries(
      kernels.map(([name, kernel]) => [name, (...args: number[]) => this.#keep(() => void kernel(...args))]),
    ) as unknown as Kernels;
  }

  /** Does all of it again, in the same order. */
  replay(): void {
    for (const again of this.#replayed) again();
  }

  #keep(run: () => void): void {
    this.#replayed.push(run);
    run();
  }

  get heapBase(): number {
    return this.engine.heapBase;
  }
  get size(): number {
    return this.engine.size;
  }
  get threads(): number {
    return this.engine.threads;
  }
  get relaxed(): boolean {
    return this.engine.relaxed;
  }
  get inWorker(): boolean {
    return this.engine.inWorker;
  }

  grow(pages: number): boolean {
    return this.engine.grow(pages);
  }

  write(at: number, bytes: Uint8Array): void {
    const copy = bytes.slice();
    this.#keep(() => this.engine.write(at, copy));
  }

  fill(at: number, count: number, byte: number): void {
    this.#keep(() => this.engine.fill(at, count, byte));
  }

  copy(to: number, from: number, count: number): void {
    this.#keep(() => this.engine.copy(to, from, count));
  }

  words(numbers: readonly number[]): number {
    const words = Int32Array.from(numbers);
    const at = this.take(words.byteLength);
    this.engine.write(at, new Uint8Array(words.buffer));
    return at;
  }

  read(): Promise<ArrayBuffer> {
    return Promise.reject(
      new UnsupportedError("wasm: read inside a capture", {
        hint: "read the captured function's results after replay",
      }),
    );
  }

  stop(): void {
    this.engine.stop();
  }
}
