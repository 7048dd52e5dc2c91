import {
  BackendMismatchError,
  type Buf,
  DisposedError,
  type DType,
  DTypeError,
  dtypeLayout,
  InvalidArgumentError,
  type MemoryUse,
  OutOfMemoryError,
} from "@mamba-ts/backend";
import { Drawer } from "./drawer.js";
import type { Engine } from "./engine.js";
import { Heap } from "./heap.js";
import type { Kernels } from "./kernels.js";
import { Pin } from "./pin.js";
import { Recording } from "./recording.js";

export const dtypes: ReadonlySet<DType> = new Set<DType>(["float32", "bf16", "f16", "int32", "q8_0"]);

const DRAWER_BYTES = 2 ** 18;

/** A piece of the WebAssembly memory. */
export class WasmBuf implements Buf {
  freed = false;
  constructor(
    readonly owner: WasmMemory,
    readonly dtype: DType,
    readonly count: number,
    /** Address of its first byte. */
    readonly at: number,
    readonly bytes: number,
    /** Of the capture that was being recorded when it was made. */
    readonly pin: Pin | undefined,
  ) {}
}

export interface MemoryOptions {
  readonly maxMemoryBytes: number;
  /** Fill every new buffer with NaN, to show that operations write all of it. */
  readonly poison: boolean;
}

/** The backend's memory: counts what is live, and tells its own buffers from others. */
export class WasmMemory {
  #disposed = false;
  #live = 0;
  #liveBytes = 0;
  readonly heap: Heap;
  readonly drawer: Drawer;
  /** Of the capture that is being recorded. */
  #pin: Pin | undefined;

  /** @param engine - what runs; while a capture is recorded, what keeps it as well */
  constructor(
    public engine: Engine,
    readonly options: MemoryOptions,
  ) {
    this.heap = new Heap(engine, engine.heapBase, options.maxMemoryBytes);
    this.drawer = new Drawer(
      DRAWER_BYTES,
      () => this.heap.take(DRAWER_BYTES),
      (at, bytes) => {
        if (options.poison) this.engine.fill(at, bytes, 0xff);
      },
    );
  }

  get kernels(): Kernels {
    return this.engine.kernels;
  }

  get isRecording(): boolean {
    return this.#pin !== undefined;
  }

  get use(): MemoryUse {
    return { liveBuffers: this.#live, liveBytes: this.#liveBytes };
  }

  /** Uninitialised memory for `count` elements; see `BackendStorage.alloc`. */
  alloc(count: number, dtype: DType): WasmBuf {
    this.assertUsable();
    const bytes = byteLengthOf(count, dtype);
    const at = this.#take(bytes);
    this.#live++;
    this.#liveBytes += bytes;
    // 0xff bytes are NaN in every float format, q8_0's scales included.
    if (this.options.poison) this.engine.fill(at, bytes, dtype === "int32" ? 0xb6 : 0xff);
    return new WasmBuf(this, dtype, count, at, bytes, this.#pin);
  }

  #take(bytes: number): number {
    const at = bytes > this.options.maxMemoryBytes ? undefined : this.heap.take(bytes);
    if (at === undefined)
      throw new OutOfMemoryError(
        `wasm: no memory for ${bytes} bytes; ${this.#liveBytes} are in use, and all is limited to ${this.options.maxMemoryBytes}`,
        { hint: "use a smaller batch, shorter chunks, or weights in bf16 or q8_0" },
      );
    return at;
  }

  /** Gives a buffer back; its memory may be handed out again. */
  free(buf: Buf): void {
    const own = this.own(buf, true);
    own.freed = true;
    this.#live--;
    this.#liveBytes -= own.bytes;
    // What a capture works with stays where it is, whoever made it.
    const pin = own.pin ?? this.#pin;
    if (pin === undefined) this.heap.give(own.at, own.bytes);
    else pin.later(own.at, own.bytes);
  }

  /** Runs `fn` and keeps what it asks the engine to do; its memory stays until the pin is released. */
  record(fn: () => void): { readonly recording: Recording; readonly pin: Pin } {
    const { engine } = this;
    const pin = new Pin((at, bytes) => this.heap.give(at, bytes));
    const recording = new Recording(engine, (bytes) => {
      const at = this.#take(bytes);
      pin.later(at, bytes);
      return at;
    });
    let failed = true;
    try {
      this.engine = recording;
      this.#pin = pin;
      fn();
      failed = false;
    } finally {
      this.engine = engine;
      this.#pin = undefined;
      if (failed) pin.release();
    }
    return { recording, pin };
  }

  /** Throws if the backend is gone. */
  assertUsable(): void {
    if (this.#disposed) throw new DisposedError("wasm: the backend was used after it had been disposed");
  }

  /** The buffer as ours; throws if it is another backend's, has been freed, or the backend is gone. */
  own(buf: Buf, afterDispose = false): WasmBuf {
    if (!(buf instanceof WasmBuf) || buf.owner !== this)
      throw new BackendMismatchError("wasm: a buffer of another backend");
    if (buf.freed)
      throw new DisposedError(`wasm: a buffer of ${buf.count} ${buf.dtype} was used after it had been freed`);
    if (!afterDispose) this.assertUsable();
    return buf;
  }

  /** Writes numbers where the next kernel call finds them, and returns their address. */
  words(numbers: readonly number[]): number {
    if (numbers.length > 1024) throw new InvalidArgumentError(`wasm: ${numbers.length} axes and strides, at most 1024`);
    return this.engine.words(numbers);
  }

  /** Allows no further use. Buffers that are still live may be freed. */
  dispose(): void {
    this.#disposed = true;
  }
}

/** Bytes that `count` elements take; `count` must be a whole number of the dtype's blocks. */
export function byteLengthOf(count: number, dtype: DType): number {
  if (!dtypes.has(dtype))
    throw new DTypeError(`wasm: no ${dtype}; there are ${[...dtypes].join(", ")}`, {
      hint: "backend-cpu computes in float64",
    });
  const { elements, bytes } = dtypeLayout[dtype];
  if (!(count >= 0) || count % elements !== 0)
    throw new InvalidArgumentError(
      `wasm: ${count} is no number of ${dtype} elements${elements === 1 ? "" : `, which come in blocks of ${elements}`}`,
    );
  return (count / elements) * bytes;
}
