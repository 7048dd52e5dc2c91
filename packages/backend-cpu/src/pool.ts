/** Freed memory is kept for reuse up to this many bytes: fresh pages cost more than the arithmetic on them. */
export const POOL_BYTES = 2 ** 26;

/** Freed memory by size. What is over the limit is left to the garbage collector, sizes that were not asked for longest first. */
export class Pool {
  #bytes = 0;
  /** Least recently used size first. */
  readonly #bySize = new Map<number, ArrayBuffer[]>();

  /** Memory of exactly this size. */
  take(bytes: number): ArrayBuffer | undefined {
    const memory = this.#touch(bytes)?.pop();
    if (memory !== undefined) this.#bytes -= bytes;
    return memory;
  }

  give(memory: ArrayBuffer): void {
    const bytes = memory.byteLength;
    if (bytes === 0 || bytes > POOL_BYTES) return;
    const list = this.#touch(bytes);
    if (list === undefined) this.#bySize.set(bytes, [memory]);
    else list.push(memory);
    this.#bytes += bytes;
    this.shrinkTo(POOL_BYTES);
  }

  /** Forgets memory until no more than `limit` bytes are kept. */
  shrinkTo(limit: number): void {
    for (const [bytes, list] of this.#bySize) {
      while (this.#bytes > limit && list.pop() !== undefined) this.#bytes -= bytes;
      if (this.#bytes <= limit) return;
      this.#bySize.delete(bytes);
    }
  }

  #touch(bytes: number): ArrayBuffer[] | undefined {
    const list = this.#bySize.get(bytes);
    if (list === undefined) return undefined;
    this.#bySize.delete(bytes);
    this.#bySize.set(bytes, list);
    return list;
  }
}
