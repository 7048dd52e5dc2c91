import { PAGE } from "./engine.js";

/** What every block's address and size are multiples of: a cache line. */
const UNIT = 64;

/**
 * Free addresses of a WebAssembly memory above `base`; the memory itself may be in another thread. Neighbouring free blocks are joined at once, and the best fitting class of sizes is
 * searched first, so that memory does not fall to pieces; blocks never move.
 */
export class Heap {
  /** Free blocks: their sizes by where they begin, and where they begin by where they end. */
  readonly #sizes = new Map<number, number>();
  readonly #starts = new Map<number, number>();
  /** Where free blocks begin, by class of size. */
  readonly #classes: Set<number>[] = [];
  #end: number;

  constructor(
    readonly source: { readonly size: number; grow(pages: number): boolean },
    base: number,
    readonly limit: number,
  ) {
    const start = Math.ceil(base / UNIT) * UNIT;
    this.#end = source.size;
    if (this.#end > start) this.#insert(start, this.#end - start);
  }

  /** Bytes the memory has grown to. */
  get size(): number {
    return this.#end;
  }

  /** The address of `bytes` bytes, or undefined if there is no room. */
  take(bytes: number): number | undefined {
    const size = blockSize(bytes);
    const at = this.#find(size) ?? (this.#grow(size) ? this.#find(size) : undefined);
    if (at === undefined) return undefined;
    const found = this.#sizes.get(at)!;
    this.#remove(at, found);
    if (found > size) this.#insert(at + size, found - size);
    return at;
  }

  /** Gives back what `take(bytes)` gave. */
  give(at: number, bytes: number): void {
    let start = at;
    let size = blockSize(bytes);
    const after = this.#sizes.get(start + size);
    if (after !== undefined) {
      this.#remove(start + size, after);
      size += after;
    }
    const before = this.#starts.get(start);
    if (before !== undefined) {
      this.#remove(before, start - before);
      size += start - before;
      start = before;
    }
    this.#insert(start, size);
  }

  #find(size: number): number | undefined {
    const first = classOf(size);
    // Blocks of the size's own class may be smaller than it.
    for (const at of this.#classes[first] ?? []) if (this.#sizes.get(at)! >= size) return at;
    for (let k = first + 1; k < this.#classes.length; k++) for (const at of this.#classes[k] ?? []) return at;
    return undefined;
  }

  #grow(size: number): boolean {
    const last = this.#starts.get(this.#end);
    const missing = size - (last === undefined ? 0 : this.#end - last);
    // A quarter more than there was, so that growing is rare.
    for (const bytes of [Math.max(missing, this.#end / 4), missing]) {
      const pages = Math.ceil(bytes / PAGE);
      if (this.#end + pages * PAGE > this.limit || !this.source.grow(pages)) continue;
      const from = this.#end;
      this.#end += pages * PAGE;
      this.give(from, pages * PAGE);
      return true;
    }
    return false;
  }

  #insert(at: number, size: number): void {
    this.#sizes.set(at, size);
    this.#starts.set(at + size, at);
    (this.#classes[classOf(size)] ??= new Set()).add(at);
  }

  #remove(at: number, size: number): void {
    this.#sizes.delete(at);
    this.#starts.delete(at + size);
    this.#classes[classOf(size)]!.delete(at);
  }
}

function blockSize(bytes: number): number {
  return Math.max(1, Math.ceil(bytes / UNIT)) * UNIT;
}

/** Four classes to every doubling. */
function classOf(size: number): number {
  const units = size / UNIT;
  const octave = 31 - Math.clz32(units);
  return 4 * octave + Math.floor((units / 2 ** octave - 1) * 4);
}
