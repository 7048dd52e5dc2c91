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
import type { NativeDevice } from "./native.js";

/** Device memory of one dtype. */
export class CudaBuf implements Buf {
  freed = false;
  /** `CudaMemory.ends` when it was made or last given to a launch, see `isSettled`. */
  used: number;
  constructor(
    readonly owner: CudaMemory,
    readonly dtype: DType,
    readonly count: number,
    /** Device address; 0 for no elements. */
    readonly pointer: number,
    /** Bytes taken, a size that is handed out again. */
    readonly room: number,
  ) {
    this.used = owner.ends;
  }

  get bytesEach(): number {
    return dtypeLayout[this.dtype].bytes;
  }

  get byteLength(): number {
    return this.count * this.bytesEach;
  }
}

const SMALL = 2 ** 20;

/** Sizes are rounded so that few different ones exist: to 512 bytes, to 1/8 of the next power of two above 1 MiB. */
function roomFor(bytes: number): number {
  const step = bytes <= SMALL ? 512 : 2 ** (Math.ceil(Math.log2(bytes)) - 3);
  return Math.ceil(bytes / step) * step;
}

/**
 * A caching allocator. All work runs in one stream, in order, so that memory which was given back may be handed out at once: what still reads it
 * is ahead in the stream. Only what does not fit is given back to the driver.
 */
export class CudaMemory {
  readonly #idle = new Map<number, number[]>();
  #live = 0;
  #liveBytes = 0;
  /** The most bytes that were live at a time, since it was last set. */
  peakBytes = 0;
  /** Launches so far that end a chain of waiting kernels, see `isSettled`. */
  ends = 0;
  /** Launches so far. */
  launches = 0;
  #idleBytes = 0;
  #isDisposed = false;
  /** All that the driver has given and not got back, idle or not. */
  readonly #addresses = new Set<number>();
  /** Buffers given back while a capture records stay pinned with it. */
  #pinned: { room: number; pointer: number }[] | undefined;
  constructor(
    readonly device: NativeDevice,
    readonly options: { readonly maxBytes: number; readonly poison: boolean },
  ) {}

  get use(): MemoryUse {
    return { liveBuffers: this.#live, liveBytes: this.#liveBytes };
  }

  /** Whether a graph is being recorded. */
  get isPinning(): boolean {
    return this.#pinned !== undefined;
  }

  /**
   * Uninitialised memory; see `BackendStorage.alloc`.
   * @param isFresh - from the driver: nothing that has been enqueued uses it
   */
  alloc(count: number, dtype: DType, isFresh = false): CudaBuf {
    this.assertLive();
    const { elements, bytes } = dtypeLayout[dtype];
    if (!Number.isSafeInteger(count) || count < 0 || elements !== 1)
      throw new InvalidArgumentError(`cuda: ${count} is no number of ${dtype} elements`);
    const room = roomFor(count * bytes);
    const pointer = room === 0 ? 0 : this.#take(room, count, dtype, isFresh);
    this.#live++;
    this.#liveBytes += room;
    this.peakBytes = Math.max(this.peakBytes, this.#liveBytes);
    // 0x7f bytes are NaN in every float format, and a large number in int32.
    if (this.options.poison && room > 0) this.device.set(pointer, 0x7f, room);
    return new CudaBuf(this, dtype, count, pointer, room);
  }

  #take(room: number, count: number, dtype: DType, isFresh: boolean): number {
    const known = isFresh ? undefined : this.#idle.get(room)?.pop();
    if (known !== undefined) {
      this.#idleBytes -= room;
      return known;
    }
    if (this.#liveBytes + room <= this.options.maxBytes) {
      if (this.#liveBytes + this.#idleBytes + room > this.options.maxBytes) this.#shrink();
      const fresh = this.#ask(room);
      if (fresh !== 0) return fresh;
      this.#shrink();
      const second = this.#ask(room);
      if (second !== 0) return second;
    }
    const [free] = this.device.memInfo();
    throw new OutOfMemoryError(
      `cuda: no memory for ${count} ${dtype} (${room} bytes): ${this.#liveBytes} are in use by this backend, ${free} are free, the limit is ${this.options.maxBytes}`,
      { hint: "use a smaller batch, shorter chunks, or activation recomputation" },
    );
  }

  /** Memory for the backend itself, which goes with it: no one's buffer, and none of `use`. */
  keep(count: number, dtype: DType): CudaBuf {
    const room = roomFor(count * dtypeLayout[dtype].bytes);
    return new CudaBuf(this, dtype, count, this.#take(room, count, dtype, true), room);
  }

  /** Memory of the driver; 0 if it has none. */
  #ask(room: number): number {
    const address = this.device.alloc(room);
    if (address !== 0) this.#addresses.add(address);
    return address;
  }

  /** Gives what is kept back to the driver. */
  #shrink(): void {
    for (const pointers of this.#idle.values())
      for (const p of pointers) {
        this.#addresses.delete(p);
        this.device.release(p);
      }
    this.#idle.clear();
    this.#idleBytes = 0;
  }

  #keep(room: number, pointer: number): void {
    if (room === 0) return;
    const list = this.#idle.get(room);
    if (list === undefined) this.#idle.set(room, [pointer]);
    else list.push(pointer);
    this.#idleBytes += room;
  }

  /** Works after `dispose`, too: tensors may be disposed after their backend. */
  free(buf: Buf): void {
    const own = this.#check(buf);
    own.freed = true;
    this.#live--;
    this.#liveBytes -= own.room;
    if (this.#isDisposed) return;
    if (this.#pinned !== undefined) this.#pinned.push(own);
    else this.#keep(own.room, own.pointer);
  }

  /**
   * Notes what has been launched.
   * @param parameters - the kernel's: buffers, or what says in `of` which one it lies in
   * @param passes - it lets the next kernel start before it has waited for those before it
   */
  launched(parameters: readonly object[], passes = false): void {
    this.launches++;
    if (!passes) this.ends++;
    for (const p of parameters) {
      const buf = p instanceof CudaBuf ? p : (p as { readonly of?: CudaBuf }).of;
      if (buf !== undefined) buf.used = this.ends;
    }
  }

  /**
   * Whether a kernel that is launched early now may read the buffer before it has waited (kernels/common/chain.cuh).
   *
   * Such a kernel starts when the one before it lets it, which may be running, as may those before that one, if it let the kernel start before it had itself waited,
   * and so on. A launch that ends the chain is one that starts when all before it is done and seen (it is not early; a product, whose kernel may let the next start)
   * or that lets the next start only when it has waited. What starts after it, at once or through others, starts when all before it is done. So the buffer may be read
   * if an end was launched after the last launch that may have written it; to be on the safe side, after the last that used it at all. Copies, fills and
   * replayed graphs need no note: only a kernel lets the next start early, what follows one of these starts when it is done.
   */
  isSettled(buf: CudaBuf): boolean {
    return this.ends > buf.used;
  }

  /** The buffer as ours; throws if it is another backend's or has been freed, by itself or with the backend. */
  own(buf: Buf): CudaBuf {
    const own = this.#check(buf);
    this.assertLive();
    return own;
  }

  assertLive(): void {
    if (this.#isDisposed) throw new DisposedError("cuda: the backend was used after it had been disposed");
  }

  #check(buf: Buf): CudaBuf {
    if (!(buf instanceof CudaBuf) || buf.owner !== this)
      throw new BackendMismatchError("cuda: a buffer of another backend, or of another device");
    if (buf.freed)
      throw new DisposedError(`cuda: a buffer of ${buf.count} ${buf.dtype} was used after it had been freed`);
    return buf;
  }

  /** From now on, what is freed is not handed out again: a graph that is being recorded reads and writes it at each replay. */
  pin(): void {
    this.#pinned = [];
  }

  /** Ends `pin`; the result gives everything back. */
  unpin(): () => void {
    const pinned = this.#pinned ?? [];
    this.#pinned = undefined;
    return () => {
      if (!this.#isDisposed) for (const { room, pointer } of pinned) this.#keep(room, pointer);
    };
  }

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  /** From now on nothing can be used; the memory is given back by `release`. */
  dispose(): void {
    this.#isDisposed = true;
  }

  /** Gives all memory back to the driver, that of live buffers and of captures, too: other backends share its context, which outlives this one. */
  release(): void {
    for (const address of this.#addresses) this.device.release(address);
    this.#addresses.clear();
    this.#idle.clear();
    this.#idleBytes = 0;
  }
}
