import { expectInteger } from "./errors.js";
import { type ByteSource, expectSize } from "./source.js";

/** A stretch of a source. */
export interface ByteWindow {
  readonly offset: number;
  readonly length: number;
}

/** All windows of one length into a source, by number. */
export interface ByteWindows {
  /** Bytes per window. */
  readonly length: number;
  /** How many windows there are. */
  readonly count: number;
  /**
   * The window of a number.
   * @param index - any integer of at least 0, taken modulo `count`: numbers of a random generator can be passed as they are
   */
  at(index: number): ByteWindow;
  /** The bytes of the window of a number. */
  read(index: number): Promise<Uint8Array>;
  /** Reads the windows of a stream of numbers, in its order. The same numbers give the same windows, which is what resuming needs. */
  stream(indices: Iterable<number> | AsyncIterable<number>): AsyncGenerator<{ offset: number; bytes: Uint8Array }>;
}

export interface WindowsOptions {
  /** From the start of one window to that of the next: 1, the default, for every place; `length` for windows side by side. */
  readonly stride?: number;
}

/**
 * The windows of `length` bytes in a source. Nothing here is random: the caller draws the numbers, from whatever generator.
 * Throws ByteDataError if the source is empty or shorter than one window.
 */
export function windowsOf(source: ByteSource, length: number, { stride = 1 }: WindowsOptions = {}): ByteWindows {
  expectInteger("windowsOf: length", length, 1);
  expectInteger("windowsOf: stride", stride, 1);
  expectSize(source, length);
  const count = Math.floor((source.size - length) / stride) + 1;
  const at = (index: number): ByteWindow => {
    expectInteger("windowsOf: index", index, 0);
    return { offset: (index % count) * stride, length };
  };
  return {
    length,
    count,
    at,
    read: async (index) => source.read(at(index).offset, length),
    async *stream(indices) {
      for await (const index of indices) {
        const { offset } = at(index);
        yield { offset, bytes: await source.read(offset, length) };
      }
    },
  };
}
