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

export function byteLengthOf(count: number, dtype: DType): number {
  const { elements, bytes } = dtypeLayout[dtype];
  if (count % elements !== 0)
    throw new InvalidArgumentError(`${dtype}: ${count} elements are no whole number of blocks of ${elements}`);
  return (count / elements) * bytes;
}

export interface MemoryOptions {
  readonly maxBufferBytes: number;
  /** Fill every new buffer with NaN, to show that operations write all of it. */
  readonly poison: boolean;
}

/** Freed memory is kept for reuse up to this many bytes: fresh pages cost more than the arithmetic on them. */
const POOL_BYTES = 2 ** 26;

export class CpuMemory {
  #live = 0;
  #liveBytes = 0;
  #pooled = 0;
  readonly #pool = new Map<number, ArrayBuffer[]>();
  constructor(readonly options: MemoryOptions) {}

  get use(): MemoryUse {
    return { liveBuffers: this.#live, liveBytes: this.#liveBytes };
  }

  alloc(count: number, dtype: DType): CpuBuf {
    const bytes = byteLengthOf(count, dtype);
    const memory = this.#take(bytes);
    this.#live++;
    this.#liveBytes += bytes;
    const words = new views[dtype](memory);
    if (this.options.poison)
      words.fill(dtype === "int32" ? -1234567890 : dtype === "bf16" || dtype === "f16" ? 0x7fff : Number.NaN);
    return new CpuBuf(this, dtype, count, words);
  }

  #take(bytes: number): ArrayBuffer {
    const free = this.#pool.get(bytes);
    const reused = free?.pop();
    if (reused !== undefined) {
      this.#pooled -= bytes;
      return reused;
    }
    if (bytes > this.options.maxBufferBytes)
      throw new OutOfMemoryError(
        `cpu: a buffer of ${bytes} bytes exceeds the limit of ${this.options.maxBufferBytes}`,
        {
          hint: "use a smaller batch or shorter chunks, or raise maxBufferBytes",
        },
      );
    try {
      return new ArrayBuffer(bytes);
    } catch (cause) {
      throw new OutOfMemoryError(`cpu: no memory for ${bytes} bytes; ${this.#liveBytes} are in use`, {
        hint: "use a smaller batch or model",
        cause,
      });
    }
  }

  free(buf: Buf): void {
    const own = this.own(buf);
    own.freed = true;
    this.#live--;
    const memory = own.words.buffer as ArrayBuffer;
    this.#liveBytes -= memory.byteLength;
    own.words = new Uint8Array(0);
    if (memory.byteLength === 0 || this.#pooled + memory.byteLength > POOL_BYTES) return;
    this.#pooled += memory.byteLength;
    const list = this.#pool.get(memory.byteLength);
    if (list === undefined) this.#pool.set(memory.byteLength, [memory]);
    else list.push(memory);
  }

  /** The buffer as ours; throws if it is another backend's or has been freed. */
  own(buf: Buf): CpuBuf {
    if (!(buf instanceof CpuBuf) || buf.owner !== this)
      throw new BackendMismatchError("cpu: a buffer of another backend");
    if (buf.freed)
      throw new DisposedError(`cpu: a buffer of ${buf.count} ${buf.dtype} was used after it had been freed`);
    return buf;
  }

  dispose(): void {
    this.#pool.clear();
    this.#pooled = 0;
  }
}
