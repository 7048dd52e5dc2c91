import type { CudaDevice } from "../device.js";
import type { CudaBuf } from "../memory.js";

/** What a layer's step leaves for the norm of the next, see `NextNorm` of kernels/mamba-step: the stream times that norm's weight, and sums of its squares. */
export interface PreparedNorm {
  readonly normed: CudaBuf;
  readonly squares: CudaBuf;
}

/**
 * The norm that the step before has prepared. It lies in memory of the backend's own, one place for each size: the next step, which takes it or
 * not, comes before another is prepared there.
 */
export class NextNorms {
  readonly #places = new Map<string, PreparedNorm>();
  #last:
    | { readonly stream: CudaBuf; readonly weight: CudaBuf; readonly at: number; readonly norm: PreparedNorm }
    | undefined;

  constructor(readonly device: CudaDevice) {}

  /** Where a norm of bf16 [rows, width] is prepared, its squares in `parts` sums a row. */
  place(rows: number, width: number, parts: number): PreparedNorm {
    const key = `${rows} ${width} ${parts}`;
    const known = this.#places.get(key);
    if (known !== undefined) return known;
    const { memory } = this.device;
    const place = { normed: memory.keep(rows * width, "bf16"), squares: memory.keep(rows * parts, "float32") };
    this.#places.set(key, place);
    return place;
  }

  /** The launch that has just been enqueued writes `stream`, and prepares the norm with this weight. */
  prepared(stream: CudaBuf, weight: CudaBuf, norm: PreparedNorm): void {
    this.#last = { stream, weight, norm, at: this.device.memory.launches };
  }

  /** The norm of `count` numbers, the whole of the stream, with this weight, if it is prepared and nothing has been enqueued since. */
  take(stream: CudaBuf, weight: CudaBuf, count: number): PreparedNorm | undefined {
    const last = this.#last;
    this.#last = undefined;
    if (last === undefined || last.stream !== stream || stream.count !== count || last.weight !== weight)
      return undefined;
    return last.at === this.device.memory.launches ? last.norm : undefined;
  }
}
