/** Device memory as the interface speaks of it: typed handles, uploads, readback, and the count of what is live. */
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
import type { Gpu } from "./gpu/gpu.js";
import type { Physical } from "./gpu/pool.js";
import { fromDeviceQ8, toDeviceQ8 } from "./q8.js";

export const dtypes: ReadonlySet<DType> = new Set<DType>(["float32", "int32", "bf16", "f16", "q8_0"]);

/** `count` elements in a GPU buffer, or in a part of one that several results of a kernel share. */
export class WebGpuBuf implements Buf {
  isFreed = false;
  constructor(
    readonly owner: WebGpuMemory,
    readonly dtype: DType,
    readonly count: number,
    readonly physical: Physical,
    /** Where it starts, in bytes: a multiple of 256. */
    readonly offset: number,
  ) {}
}

/** NaN in floats, something absurd in int32, as 32-bit words. */
const poisonOf: { readonly [K in DType]: number } = {
  float32: 0x7fc00000,
  float64: 0x7fc00000,
  int32: 0xb669fd2e,
  bf16: 0x7fff7fff,
  f16: 0x7fff7fff,
  q8_0: 0x7fc00000,
};

/** Bytes on the device: q8_0 has its scales as float32, behind all quants, so that both can be read in whole words. */
function deviceBytes(count: number, dtype: DType): number {
  if (dtype === "q8_0") return (count / 32) * 36;
  return Math.ceil((count * dtypeLayout[dtype].bytes) / 4) * 4;
}

const bytesOf = (view: ArrayBufferView): Uint8Array<ArrayBuffer> =>
  new Uint8Array(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength);

export class WebGpuMemory {
  #liveBuffers = 0;
  #liveBytes = 0;
  #isDisposed = false;
  readonly poison: boolean;

  constructor(
    readonly gpu: Gpu,
    { poison }: { readonly poison: boolean },
  ) {
    this.poison = poison;
  }

  get use(): MemoryUse {
    return { liveBuffers: this.#liveBuffers, liveBytes: this.#liveBytes };
  }

  /** Uninitialised memory for `count` elements; see `BackendStorage.alloc`. */
  alloc(count: number, dtype: DType): WebGpuBuf {
    return this.#alloc(count, dtype, undefined);
  }

  /** Several buffers in one GPU buffer, for kernels with more results than an adapter lets them bind; each starts at a multiple of 256 bytes. */
  allocTogether(counts: readonly number[]): {
    readonly bufs: readonly WebGpuBuf[];
    readonly starts: readonly number[];
  } {
    const starts: number[] = [];
    let bytes = 0;
    for (const count of counts) {
      starts.push(bytes / 4);
      bytes += Math.ceil(Math.max(1, count) / 64) * 256;
    }
    this.#assertFits(bytes);
    const physical = this.gpu.pool.take(bytes);
    physical.holds += counts.length - 1;
    const bufs = counts.map((count, i) => this.#handle(count, "float32", physical, 4 * starts[i]!));
    if (this.poison) for (const buf of bufs) this.#fillWithPoison(buf);
    return { bufs, starts };
  }

  /** Another handle to the same memory, for results that are equal. Neither may be written to in place. */
  share({ dtype, count, physical, offset }: WebGpuBuf): WebGpuBuf {
    physical.holds++;
    return this.#handle(count, dtype, physical, offset);
  }

  #alloc(count: number, dtype: DType, idle: number | undefined): WebGpuBuf {
    this.assertOpen();
    if (!dtypes.has(dtype))
      throw new DTypeError(`webgpu: no ${dtype}`, { hint: `cast to one of ${[...dtypes].join(", ")}` });
    if (!Number.isInteger(count) || count < 0 || count % dtypeLayout[dtype].elements !== 0)
      throw new InvalidArgumentError(`webgpu: ${count} is no number of ${dtype} elements`);
    const bytes = deviceBytes(count, dtype);
    this.#assertFits(bytes);
    const buf = this.#handle(count, dtype, this.gpu.pool.take(bytes, idle), 0);
    if (this.poison && idle === undefined) this.#fillWithPoison(buf);
    return buf;
  }

  #assertFits(bytes: number): void {
    if (bytes > this.gpu.maxBufferBytes)
      throw new OutOfMemoryError(
        `webgpu: a buffer of ${bytes} bytes exceeds this device's limit of ${this.gpu.maxBufferBytes}`,
        { hint: "use a smaller batch or shorter chunks" },
      );
  }

  #handle(count: number, dtype: DType, physical: Physical, offset: number): WebGpuBuf {
    this.#liveBuffers++;
    this.#liveBytes += (count / dtypeLayout[dtype].elements) * dtypeLayout[dtype].bytes;
    return new WebGpuBuf(this, dtype, count, physical, offset);
  }

  #fillWithPoison(buf: WebGpuBuf): void {
    const count = deviceBytes(buf.count, buf.dtype) / 4;
    this.gpu.run("fill/fill", { y: buf }, { start: 0, count, word: poisonOf[buf.dtype] }, { threads: count });
  }

  /** See `BackendStorage.upload`. */
  upload(data: ArrayBufferView, dtype: DType): WebGpuBuf {
    const { elements, bytes } = dtypeLayout[dtype];
    // A buffer that no waiting command uses: a host write would overtake such a command.
    const buf = this.#alloc((data.byteLength / bytes) * elements, dtype, this.gpu.commands.batch);
    this.#writeAt(buf, data, 0);
    return buf;
  }

  /** See `BackendStorage.write`. */
  write(buf: Buf, data: ArrayBufferView, start = 0): void {
    const own = this.own(buf);
    const { elements, bytes } = dtypeLayout[own.dtype];
    const count = (data.byteLength / bytes) * elements;
    assertRange("write", own, start, count);
    if (own.physical.batch === this.gpu.commands.batch) this.gpu.commands.flush();
    if (bytes === 2 && (start % 2 !== 0 || (count % 2 !== 0 && start + count < own.count)))
      this.#writeHalves(own, data, start, count);
    else this.#writeAt(own, data, start);
  }

  #writeAt(own: WebGpuBuf, data: ArrayBufferView, start: number): void {
    const { queue } = this.gpu.device;
    const { gpu } = own.physical;
    this.gpu.faults.assertAlive();
    if (data.byteLength === 0) return;
    if (own.dtype === "q8_0") {
      const { quants, scales } = toDeviceQ8(bytesOf(data));
      queue.writeBuffer(gpu, own.offset + start, quants);
      queue.writeBuffer(gpu, own.offset + own.count + (start / 32) * 4, scales);
      return;
    }
    let bytes = bytesOf(data);
    if (bytes.length % 4 !== 0) {
      const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
      padded.set(bytes);
      bytes = padded;
    }
    queue.writeBuffer(gpu, own.offset + start * dtypeLayout[own.dtype].bytes, bytes);
  }

  /** Elements that share a word with some that stay. */
  #writeHalves(own: WebGpuBuf, data: ArrayBufferView, start: number, count: number): void {
    const x = this.upload(data, own.dtype);
    this.gpu.run("copy/halves", { x, y: own }, { start, count }, { threads: Math.ceil((count + (start % 2)) / 2) });
    this.free(x);
  }

  /** See `BackendStorage.read`. */
  async read(buf: Buf, start = 0, count = buf.count - start): Promise<ArrayBuffer> {
    const own = this.own(buf);
    assertRange("read", own, start, count);
    const { readback } = this.gpu;
    if (own.dtype === "q8_0") {
      const [quants, scales] = await Promise.all([
        readback.read(own.physical, own.offset + start, count),
        readback.read(own.physical, own.offset + own.count + (start / 32) * 4, count / 8),
      ]);
      return fromDeviceQ8(new Uint8Array(quants), new Float32Array(scales));
    }
    const { bytes } = dtypeLayout[own.dtype];
    const first = Math.floor((start * bytes) / 4) * 4;
    const end = Math.ceil(((start + count) * bytes) / 4) * 4;
    const words = await readback.read(own.physical, own.offset + first, end - first);
    const at = start * bytes - first;
    return at === 0 && words.byteLength === count * bytes ? words : words.slice(at, at + count * bytes);
  }

  /** Works on a disposed backend too, whose tensors may be disposed after it. */
  free(buf: Buf): void {
    const own = this.#ours(buf);
    own.isFreed = true;
    this.#liveBuffers--;
    this.#liveBytes -= (own.count / dtypeLayout[own.dtype].elements) * dtypeLayout[own.dtype].bytes;
    if (!this.#isDisposed) this.gpu.pool.release(own.physical);
  }

  /** The buffer as ours: what every kernel starts with. Throws BackendMismatchError, DisposedError. */
  own(buf: Buf): WebGpuBuf {
    this.assertOpen();
    return this.#ours(buf);
  }

  dispose(): void {
    this.#isDisposed = true;
  }

  assertOpen(): void {
    if (this.#isDisposed) throw new DisposedError("webgpu: the backend was used after it had been disposed");
    this.gpu.faults.assertAlive();
  }

  #ours(buf: Buf): WebGpuBuf {
    if (!(buf instanceof WebGpuBuf) || buf.owner !== this)
      throw new BackendMismatchError("webgpu: a buffer of another backend");
    if (buf.isFreed)
      throw new DisposedError(`webgpu: a buffer of ${buf.count} ${buf.dtype} was used after it had been freed`);
    return buf;
  }
}

function assertRange(what: string, buf: WebGpuBuf, start: number, count: number): void {
  const { elements } = dtypeLayout[buf.dtype];
  const isWhole = (n: number): boolean => Number.isInteger(n) && n >= 0 && n % elements === 0;
  if (!isWhole(start) || !isWhole(count) || start + count > buf.count)
    throw new InvalidArgumentError(
      `webgpu: ${what} of ${count} elements from ${start} on, of ${buf.count} ${buf.dtype}`,
    );
}
