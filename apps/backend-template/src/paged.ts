import {
  BackendMismatchError,
  type Buf,
  DisposedError,
  type DType,
  DTypeError,
  InvalidArgumentError,
  type MemoryUse,
} from "@mamba-ts/backend";

const PAGE = 1024;
type Page = Float32Array | Int32Array;
type PagedDType = "float32" | "int32";

/** A buffer in pages. Replace it by your device's handle. */
export class PagedBuf implements Buf {
  readonly pages: Page[];
  freed = false;
  constructor(
    readonly dtype: PagedDType,
    readonly count: number,
  ) {
    const Typed = dtype === "float32" ? Float32Array : Int32Array;
    this.pages = Array.from({ length: Math.ceil(count / PAGE) }, () => new Typed(PAGE));
  }

  get(i: number): number {
    return this.pages[Math.floor(i / PAGE)]![i % PAGE]!;
  }

  set(i: number, value: number): void {
    this.pages[Math.floor(i / PAGE)]![i % PAGE] = value;
  }
}

/** The six storage members. */
export class PagedMemory {
  #live = 0;
  #bytes = 0;

  get use(): MemoryUse {
    return { liveBuffers: this.#live, liveBytes: this.#bytes };
  }

  alloc(count: number, dtype: DType): PagedBuf {
    if (dtype !== "float32" && dtype !== "int32") throw new DTypeError(`template: there is no ${dtype} here`);
    this.#live++;
    this.#bytes += count * 4;
    return new PagedBuf(dtype, count);
  }

  upload(data: ArrayBufferView, dtype: DType): PagedBuf {
    const buf = this.alloc(data.byteLength / 4, dtype);
    this.write(buf, data);
    return buf;
  }

  /** Bytes cross the interface dense and little-endian, whatever the layout is inside. */
  write(target: Buf, data: ArrayBufferView, start = 0): void {
    const buf = this.own(target);
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const count = data.byteLength / 4;
    if (start + count > buf.count)
      throw new InvalidArgumentError(`template: ${count} elements at ${start} of ${buf.count}`);
    for (let i = 0; i < count; i++)
      buf.set(start + i, buf.dtype === "float32" ? view.getFloat32(4 * i, true) : view.getInt32(4 * i, true));
  }

  async read(source: Buf, start = 0, count = source.count - start): Promise<ArrayBuffer> {
    const buf = this.own(source);
    if (start < 0 || count < 0 || start + count > buf.count)
      throw new InvalidArgumentError(`template: ${count} elements from ${start} of ${buf.count}`);
    const view = new DataView(new ArrayBuffer(count * 4));
    for (let i = 0; i < count; i++) {
      if (buf.dtype === "float32") view.setFloat32(4 * i, buf.get(start + i), true);
      else view.setInt32(4 * i, buf.get(start + i), true);
    }
    return view.buffer;
  }

  free(target: Buf): void {
    const buf = this.own(target);
    buf.freed = true;
    buf.pages.length = 0;
    this.#live--;
    this.#bytes -= buf.count * 4;
  }

  /** The buffer as ours; a foreign one, or one that has been freed, is an error and never a crash. */
  own(buf: Buf): PagedBuf {
    if (!(buf instanceof PagedBuf)) throw new BackendMismatchError("template: a buffer of another backend");
    if (buf.freed) throw new DisposedError("template: a buffer was used after it had been freed");
    return buf;
  }
}
