import type { Kernels } from "./kernels.js";

/** Where kernels run and memory lies: this thread, or a worker that gets everything in order and answers only when something is read. */
export interface Engine {
  readonly kernels: Kernels;
  /** The first address that is free. */
  readonly heapBase: number;
  /** Bytes the memory has grown to. */
  readonly size: number;
  /** This thread, or the worker, included. */
  readonly threads: number;
  /** Whether multiply-adds are fused. */
  readonly relaxed: boolean;
  readonly inWorker: boolean;
  /** False if there is no more memory to be had. */
  grow(pages: number): boolean;
  /** Takes a copy of the bytes. */
  write(at: number, bytes: Uint8Array): void;
  fill(at: number, count: number, byte: number): void;
  copy(to: number, from: number, count: number): void;
  /** Leaves numbers where the next kernel call finds them, and returns their address. */
  words(numbers: readonly number[]): number;
  /** The bytes as everything before this call leaves them. */
  read(at: number, count: number): Promise<ArrayBuffer>;
  /** Ends it, and all threads. */
  stop(): void;
}

export const PAGE = 65536;
/** As the linker gives the first thread. */
export const STACK_BYTES = 2 ** 19;

/** Addresses behind a module's own data: where the threads' stacks end, and where free memory begins. */
export function layout(heapBase: number, threads: number): { stacks: number[]; heapBase: number } {
  const first = Math.ceil(heapBase / PAGE) * PAGE;
  const stacks = Array.from({ length: threads - 1 }, (_, i) => first + (i + 1) * STACK_BYTES);
  return { stacks, heapBase: first + (threads - 1) * STACK_BYTES };
}
