/** GPU buffers by size, kept for reuse. */
import type { Device } from "./types.js";

/** A GPU buffer that one or more handles share. */
export interface Physical {
  readonly id: number;
  readonly gpu: GPUBuffer;
  readonly bytes: number;
  /** Handles that look at it, and captures that pin it. */
  holds: number;
  /** The last batch of commands that uses it. */
  batch: number;
}

const LEAST = 256;
/** What may lie unused for however long. */
const SPARE = 2 ** 26;
/** After so many batches without it a buffer counts as no longer needed: more than a training step has. */
const UNUSED_BATCHES = 256;

/** The size class of so many bytes: a quarter of a power of two apart, so that at most a fifth is wasted. */
export function sizeClass(bytes: number): number {
  if (bytes <= LEAST) return LEAST;
  const step = 2 ** Math.max(8, Math.floor(Math.log2(bytes - 1)) - 2);
  return Math.ceil(bytes / step) * step;
}

/**
 * Where the buffer that was made first stands: equal work then gets equal buffers, time and again, and finds its bind groups.
 * @param idle - not one that this batch uses
 */
function oldest(free: readonly Physical[], idle: number | undefined): number {
  let at = -1;
  for (const [i, { id, batch }] of free.entries()) if (batch !== idle && (at < 0 || id < free[at]!.id)) at = i;
  return at;
}

export class BufferPool {
  readonly #free = new Map<number, Physical[]>();
  #nextId = 0;
  #usedBytes = 0;
  #freeBytes = 0;
  /** What has been handed out since the innermost open `pin`. */
  #pins: Set<Physical>[] = [];

  constructor(
    readonly device: Device,
    readonly maxBytes: number,
  ) {}

  /** Bytes in use and lying ready. */
  get use(): { readonly usedBytes: number; readonly freeBytes: number } {
    return { usedBytes: this.#usedBytes, freeBytes: this.#freeBytes };
  }

  /** @param idle - only one that the commands of this batch do not use: host writes overtake commands that are not submitted */
  take(bytes: number, idle?: number): Physical {
    const size = Math.min(sizeClass(bytes), Math.max(bytes, this.maxBytes - (this.maxBytes % LEAST)));
    this.#usedBytes += size;
    const free = this.#free.get(size);
    const at = free === undefined ? -1 : oldest(free, idle);
    if (free !== undefined && at >= 0) {
      const [physical] = free.splice(at, 1) as [Physical];
      this.#freeBytes -= size;
      physical.holds = 1;
      return this.#pinned(physical);
    }
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const id = this.#nextId++;
    const gpu = this.device.createBuffer({ label: `buffer ${id}, ${size} bytes`, size, usage });
    return this.#pinned({ id, gpu, bytes: size, holds: 1, batch: -1 });
  }

  #pinned(physical: Physical): Physical {
    const pins = this.#pins.at(-1);
    if (pins !== undefined && !pins.has(physical)) {
      pins.add(physical);
      physical.holds++;
    }
    return physical;
  }

  /** Until `end`, what is handed out is held; `release` ends those holds. */
  pin(): { end(): void; release(): void } {
    const pins = new Set<Physical>();
    this.#pins.push(pins);
    return {
      end: () => {
        this.#pins = this.#pins.filter((other) => other !== pins);
      },
      release: () => {
        for (const physical of pins) this.release(physical);
        pins.clear();
      },
    };
  }

  /** Ends one hold; the last one puts the buffer back. */
  release(physical: Physical): void {
    if (--physical.holds > 0) return;
    this.#usedBytes -= physical.bytes;
    this.#freeBytes += physical.bytes;
    const free = this.#free.get(physical.bytes);
    if (free === undefined) this.#free.set(physical.bytes, [physical]);
    else free.push(physical);
  }

  /**
   * Destroys what has lain unused for long, beyond what may always lie ready. To be called when nothing is waiting to be submitted.
   * @param now - the number of the batch that comes next
   * @returns whether a buffer was destroyed
   */
  trim(now: number): boolean {
    if (this.#freeBytes <= SPARE) return false;
    let destroyed = false;
    for (const [size, free] of this.#free) {
      const kept = free.filter(({ batch, gpu }) => {
        if (batch > now - UNUSED_BATCHES || this.#freeBytes <= SPARE) return true;
        gpu.destroy();
        this.#freeBytes -= size;
        destroyed = true;
        return false;
      });
      if (kept.length < free.length) this.#free.set(size, kept);
    }
    return destroyed;
  }
}
