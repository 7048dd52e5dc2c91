import {
  BackendMismatchError,
  type Buf,
  DisposedError,
  type DType,
  dtypeLayout,
  InvalidArgumentError,
  type MemoryUse,
  OutOfMemoryError,
} from "@mamba-ts/backend";
import { POOL_BYTES, Pool } from "./pool.js";

export type Words = Float32Array | Float64Array | Int32Array | Uint16Array | Uint8Array;

/** A typed array and what it holds. bf16 and f16 lie in 16-bit words, q8_0 in blocks of 34 bytes. */
export class CpuBuf implements Buf {
  freed = false;
  constructor(
    readonly owner: CpuMemory,
    readonly dtype: DType,
    readonly count: number,
    public words: Words,
  ) {}
}

const views = {
  float32: Float32Array,
  float64: Float64Array,
  int32: Int32Array,
  bf16: Uint16Array,
  f16: Uint16Array,
  q8_0: Uint8Array,
} as const;

/** Bytes that `count` elements take; `count` must be a whole number of the dtype's blocks. */
export function byteLengthOf(count: number, dtype: DType): number {
  const { elements, bytes } = dtypeLayout[dtype];
  if (!(count >= 0) || count % elements !== 0)
    throw new InvalidArgumentError(
      `cpu: ${count} is no number of ${dtype} elements${elements === 1 ? "" : `, which come in blocks of ${elements}`}`,
    );
  return (count / elements) * bytes;
}

export interface MemoryOptions {
  readonly maxBufferBytes: number;
  /** Fill every new buffer with NaN, to show that operations write all of it. */
  readonly poison: boolean;
}

/** NaN in every float format (0x7f bytes give q8_0's f16 scales one), something absurd in int32. */
const poisonOf: { readonly [K in DType]: number } = {
  float32: Number.NaN,
  float64: Number.NaN,
  int32: -1234567890,
  bf16: 0x7fff,
  f16: 0x7fff,
  q8_0: 0x7f,
};

/** The backend's memory: counts what is live, keeps some of what was freed, and tells its own buffers from others. */
export class CpuMemory {
  #disposed = false;
  #live = 0;
  #liveBytes = 0;
  /** The most that was live at once. */
  #peakBytes = 0;
  readonly #pool = new Pool();
  constructor(readonly options: MemoryOptions) {}

  get use(): MemoryUse {
    return { liveBuffers: this.#live, liveBytes: this.#liveBytes };
  }

  /** Uninitialised memory for `count` elements; see `BackendStorage.alloc`. */
  alloc(count: number, dtype: DType): CpuBuf {
    if (this.#disposed) throw new DisposedError("cpu: the backend was used after it had been disposed");
    const bytes = byteLengthOf(count, dtype);
    const words = this.#take(bytes, dtype);
    this.#live++;
    this.#liveBytes += bytes;
    this.#peakBytes = Math.max(this.#peakBytes, this.#liveBytes);
    if (this.options.poison) words.fill(poisonOf[dtype]);
    return new CpuBuf(this, dtype, count, words);
  }

  #take(bytes: number, dtype: DType): Words {
    const reused = this.#pool.take(bytes);
    if (reused !== undefined) return new views[dtype](reused);
    if (bytes > this.options.maxBufferBytes)
      throw new OutOfMemoryError(
        `cpu: a buffer of ${bytes} bytes exceeds the limit of ${this.options.maxBufferBytes}`,
        { hint: "use a smaller batch or shorter chunks, or raise maxBufferBytes" },
      );
    // What is kept for reuse must not make the process larger than it has been anyway.
    this.#pool.shrinkTo(Math.max(POOL_BYTES, this.#peakBytes) - this.#liveBytes - bytes);
    try {
      return new views[dtype](new ArrayBuffer(bytes));
    } catch {
      this.#pool.shrinkTo(0);
    }
    try {
      return new views[dtype](new ArrayBuffer(bytes));
    } catch (cause) {
      throw new OutOfMemoryError(`cpu: no memory for ${bytes} bytes; ${this.#liveBytes} are in use`, {
        hint: "use a smaller batch or model",
        cause,
      });
    }
  }

  /** Gives a buffer back; its memory may be handed out again. */
  free(buf: Buf): void {
    const own = this.own(buf);
    own.freed = true;
    this.#live--;
    const memory = own.words.buffer as ArrayBuffer;
    this.#liveBytes -= memory.byteLength;
    own.words = new Uint8Array(0);
    if (!this.#disposed) this.#pool.give(memory);
  }

  /** The buffer as ours; throws if it is another backend's or has been freed. */
  own(buf: Buf): CpuBuf {
    if (!(buf instanceof CpuBuf) || buf.owner !== this)
      throw new BackendMismatchError("cpu: a buffer of another backend");
    if (buf.freed)
      throw new DisposedError(`cpu: a buffer of ${buf.count} ${buf.dtype} was used after it had been freed`);
    return buf;
  }

  /** Allows no further allocation. Buffers that are still live may be freed. */
  dispose(): void {
    this.#disposed = true;
    this.#pool.shrinkTo(0);
  }
}
