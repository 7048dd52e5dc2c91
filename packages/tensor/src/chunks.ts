import type { Backend } from "@mamba-ts/backend";
import { add } from "./ops/binary.js";
import { hold, release, type Tensor } from "./tensor.js";

/** No buffer of a composition's chunk exceeds this many bytes: small enough that a dozen of them fit beside the data. */
const CHUNK_BYTES = 2 ** 22;

/** How many items of `bytesEach` a chunk takes: at least one. */
export function chunkLength(backend: Backend, bytesEach: number, total: number): number {
  const budget = Math.min(backend.limits.maxBufferBytes, CHUNK_BYTES);
  return Math.max(1, Math.min(total, Math.floor(budget / Math.max(1, bytesEach))));
}

/** Half-open ranges that cover [0, total) in steps of `step`. */
export function chunkRanges(total: number, step: number): { readonly start: number; readonly end: number }[] {
  const ranges = [];
  for (let start = 0; start < total; start += step) ranges.push({ start, end: Math.min(total, start + step) });
  return ranges;
}

/** A running sum of gradients: keeps one tensor alive, whatever scopes end meanwhile. */
export class GradientSum {
  #total: Tensor | undefined;

  add(g: Tensor | undefined): void {
    if (g === undefined) return;
    const before = this.#total;
    this.#total = hold(before === undefined ? g : add(before, g));
    if (before !== undefined) release(before);
  }

  /** The sum as a tensor of the current scope; undefined if nothing was added. */
  take(): Tensor | undefined {
    const total = this.#total;
    if (total === undefined) return undefined;
    const view = total.view(total.shape, total.strides);
    release(total);
    this.#total = undefined;
    return view;
  }
}
