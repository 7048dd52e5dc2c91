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

/** Elements of a page, 2 ** PAGE_BITS; the last page of a buffer is as short as it may be. */
const PAGE_BITS = 10;
const PAGE = 2 ** PAGE_BITS;

const pageTypes = { float32: Float32Array, int32: Int32Array };
type StoredDType = keyof typeof pageTypes;

/** The element types this backend has. float32 and int32 are required. */
export const dtypes: ReadonlySet<DType> = new Set(Object.keys(pageTypes) as StoredDType[]);

/** Larger buffers are refused. Core asks for it, so that its compositions stay below. */
export const maxBufferBytes = 2 ** 31;

/**
 * A buffer: `count` elements in pages. Outside this package only `dtype` and `count` are known, so that memory may lie in any
 * way at all: nobody but a backend's own kernels ever looks inside.
 *
 * Your backend: hold a device pointer, a GPUBuffer, a texture. `get` and `set` are for kernels that run in this process.
 */
export class PagedBuf implements Buf {
  isFreed = false;
  constructor(
    readonly owner: PagedMemory,
    readonly dtype: StoredDType,
    readonly count: number,
    readonly pages: (Float32Array | Int32Array)[],
  ) {}

  /** Element `i` of the dense, row-major order that the interface speaks of. */
  get(i: number): number {
    return this.pages[i >>> PAGE_BITS]![i & (PAGE - 1)]!;
  }

  /** Rounds to float32, or wraps to int32, as typed arrays do. */
  set(i: number, value: number): void {
    this.pages[i >>> PAGE_BITS]![i & (PAGE - 1)] = value;
  }
}

export interface MemoryOptions {
  readonly poison: boolean;
}

/**
 * The six storage members, and the count of what is live.
 *
 * Your backend: replace `alloc`, `upload`, `write`, `read` and `synchronize` by the device's; keep `own` and the counting. On a
 * device with a queue, `write` and `free` must wait their turn behind the work enqueued earlier, and what failed there is
 * reported by the next `read` or `synchronize`.
 */
export class PagedMemory {
  #liveBuffers = 0;
  #liveBytes = 0;
  #isDisposed = false;
  constructor(readonly options: MemoryOptions) {}

  /** Exact: tests compare it before and after. */
  get use(): MemoryUse {
    return { liveBuffers: this.#liveBuffers, liveBytes: this.#liveBytes };
  }

  /** Memory whose content is anything. Throws DTypeError, InvalidArgumentError, OutOfMemoryError. */
  alloc(count: number, dtype: DType): PagedBuf {
    this.#assertOpen();
    if (!isStored(dtype))
      throw new DTypeError(`template: no ${dtype}`, { hint: `cast to one of ${[...dtypes].join(", ")}` });
    if (!Number.isInteger(count) || count < 0) throw new InvalidArgumentError(`template: alloc of ${count} elements`);
    const bytes = count * dtypeLayout[dtype].bytes;
    if (bytes > maxBufferBytes)
      throw new OutOfMemoryError(`template: a buffer of ${bytes} bytes exceeds the limit of ${maxBufferBytes}`, {
        hint: "use a smaller batch or shorter chunks",
      });
    const Page = pageTypes[dtype];
    const pages = Array.from({ length: Math.ceil(count / PAGE) }, (_, p) => new Page(Math.min(PAGE, count - p * PAGE)));
    if (this.options.poison) for (const page of pages) page.fill(dtype === "int32" ? -1234567890 : Number.NaN);
    this.#liveBuffers++;
    this.#liveBytes += bytes;
    return new PagedBuf(this, dtype, count, pages);
  }

  /** `data` holds the elements' little-endian bytes, dense, row-major; it is the caller's again when this returns. */
  upload(data: ArrayBufferView, dtype: DType): PagedBuf {
    const buf = this.alloc(data.byteLength / dtypeLayout[dtype].bytes, dtype);
    this.write(buf, data);
    return buf;
  }

  /** Overwrites elements from `start` on. */
  write(buf: Buf, data: ArrayBufferView, start = 0): void {
    const own = this.own(buf);
    const { bytes } = dtypeLayout[own.dtype];
    const count = data.byteLength / bytes;
    assertRange("write", own, start, count);
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    for (let i = 0; i < count; i++)
      own.set(start + i, own.dtype === "int32" ? view.getInt32(i * bytes, true) : view.getFloat32(i * bytes, true));
  }

  /** The bytes of `count` elements from `start` on, as `upload` takes them. */
  async read(buf: Buf, start = 0, count = buf.count - start): Promise<ArrayBuffer> {
    const own = this.own(buf);
    const { bytes } = dtypeLayout[own.dtype];
    assertRange("read", own, start, count);
    const view = new DataView(new ArrayBuffer(count * bytes));
    for (let i = 0; i < count; i++) {
      const value = own.get(start + i);
      if (own.dtype === "int32") view.setInt32(i * bytes, value, true);
      else view.setFloat32(i * bytes, value, true);
    }
    return view.buffer;
  }

  /** Works on a disposed backend too, whose tensors may be disposed after it. */
  free(buf: Buf): void {
    const own = this.#ours(buf);
    own.isFreed = true;
    own.pages.length = 0;
    this.#liveBuffers--;
    this.#liveBytes -= own.count * dtypeLayout[own.dtype].bytes;
  }

  /** Nothing is ever pending: every call here is done when it returns. */
  async synchronize(): Promise<void> {
    this.#assertOpen();
  }

  /** The buffer as ours: what every kernel starts with. Throws BackendMismatchError, DisposedError. */
  own(buf: Buf): PagedBuf {
    this.#assertOpen();
    return this.#ours(buf);
  }

  dispose(): void {
    this.#isDisposed = true;
  }

  #ours(buf: Buf): PagedBuf {
    if (!(buf instanceof PagedBuf) || buf.owner !== this)
      throw new BackendMismatchError("template: a buffer of another backend");
    if (buf.isFreed)
      throw new DisposedError(`template: a buffer of ${buf.count} ${buf.dtype} was used after it had been freed`);
    return buf;
  }

  #assertOpen(): void {
    if (this.#isDisposed) throw new DisposedError("template: the backend was used after it had been disposed");
  }
}

function isStored(dtype: DType): dtype is StoredDType {
  return dtypes.has(dtype);
}

function assertRange(what: string, buf: PagedBuf, start: number, count: number): void {
  const isRange = Number.isInteger(start) && Number.isInteger(count) && start >= 0 && count >= 0;
  if (!isRange || start + count > buf.count)
    throw new InvalidArgumentError(`template: ${what} of ${count} elements from ${start} on, of ${buf.count}`);
}
