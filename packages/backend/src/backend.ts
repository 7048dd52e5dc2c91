import type { BlockDType, DType, FloatDType } from "./dtype.js";
import type { FusedOps } from "./fused.js";
import type { Buf, Primitives } from "./primitives.js";

/** The version of this interface. A backend of another version is refused when its first tensor is made. */
export const API_VERSION = 1;

/** Device memory. The six members that move bytes. */
export interface BackendStorage {
  /** Uninitialised memory for `count` elements. Throws OutOfMemoryError. */
  alloc(count: number, dtype: DType): Buf;
  /** Memory holding `data`: the elements' little-endian bytes, dense, row-major. The data is copied before the call returns. */
  upload(data: ArrayBufferView, dtype: DType): Buf;
  /** Overwrites `buf` in place, from element `start` on. Work enqueued earlier still sees the old content. */
  write(buf: Buf, data: ArrayBufferView, start?: number): void;
  /** The bytes of `count` elements from `start` on (all by default), after the work enqueued so far. Rejects if that work failed. */
  read(buf: Buf, start?: number, count?: number): Promise<ArrayBuffer>;
  /** Gives memory back; work enqueued earlier may still use it. */
  free(buf: Buf): void;
  /** Resolves when all enqueued work is done; rejects if some of it failed. */
  synchronize(): Promise<void>;
}

export interface MemoryUse {
  readonly liveBuffers: number;
  readonly liveBytes: number;
}

/** A recorded sequence of launches, replayed on the same buffers. */
export interface Capture extends Disposable {
  replay(): void;
}

/**
 * What a backend implements: six storage members and fifteen primitives. Everything else works from these; `fused` members
 * make it fast. A backend is an ordinary object: there is no registry, tensors carry it.
 */
export interface Backend extends BackendStorage, Primitives, Disposable {
  /** An open name, such as "cpu" or "webgpu"; never compared with a list. */
  readonly name: string;
  readonly apiVersion: typeof API_VERSION;
  /** The device, for people: printed beside every measurement. */
  readonly device: string;
  /** Must contain float32 and int32. */
  readonly dtypes: ReadonlySet<DType>;
  /** What a loader converts weights to when nothing else is asked. */
  readonly preferredWeightDtype: FloatDType | BlockDType;
  readonly limits: {
    /** The largest buffer. Compositions keep theirs below it. */
    readonly maxBufferBytes: number;
  };
  readonly fused?: FusedOps;
  /** Runs `fn` once, recording what it launches. Buffers allocated meanwhile stay pinned until the capture is disposed. */
  capture?(fn: () => void): Capture;
  memory(): MemoryUse;
}
