import {
  API_VERSION,
  type Backend,
  type Buf,
  DisposedError,
  type DType,
  InvalidArgumentError,
  type Operand,
  type Shape,
  UnsupportedError,
} from "@mamba-ts/backend";
import { currentCapturing } from "./recorder.js";
import { adopt, disown } from "./scope.js";
import { denseStrides, isDense, show, sizeOf } from "./shape.js";
import { giveTurn } from "./turn.js";

/** A buffer and the number of tensors that look at it; freed when the last of them goes. Without a buffer while it waits to be computed again. */
interface Storage {
  readonly backend: Backend;
  buf: Buf | undefined;
  views: number;
}

let nextId = 0;
/** How many tensors have been made: those with a smaller `id` were there before. */
export function tensorsMade(): number {
  return nextId;
}

/** Host arrays a tensor reads back as. */
export type HostArray = Float32Array | Float64Array | Int32Array;

/**
 * An n-dimensional array on a backend: a view (shape, strides, offset) of a buffer. Tensors are values: operations never change
 * them, and make new ones, owned by the innermost open `scope`.
 */
export class Tensor {
  /** Identity for the tape. */
  readonly id = nextId++;
  /** Owners: the scope or user that made it, and every open tape that saved it. */
  holds = 1;
  /** The open scope it belongs to. Only scope.ts sets it: a field, since a weak map of every tensor made costs more than many a kernel's launch. */
  scope: { readonly tensors: Set<Tensor> } | undefined;
  /** A capture relies on its memory. Only capture.ts sets it. */
  isCaptured = false;
  #storage: Storage;
  #freedAt: Error | undefined;
  #owned = true;

  private constructor(
    storage: Storage,
    readonly shape: Shape,
    readonly strides: readonly number[],
    readonly offset: number,
    readonly dtype: DType,
  ) {
    this.#storage = storage;
    storage.views++;
    adopt(this);
  }

  /** Takes ownership of a dense buffer. */
  static fromBuffer(backend: Backend, buf: Buf, shape: Shape, dtype: DType = buf.dtype): Tensor {
    return new Tensor({ backend, buf, views: 0 }, shape, denseStrides(shape), 0, dtype);
  }

  /** Another view of the same memory. */
  view(shape: Shape, strides: readonly number[] = denseStrides(shape), offset: number = this.offset): Tensor {
    this.assertLive();
    return new Tensor(this.#storage, shape, strides, offset, this.dtype);
  }

  get backend(): Backend {
    return this.#storage.backend;
  }

  /** The buffer this tensor looks at; throws DisposedError once freed. */
  get buf(): Buf {
    this.assertLive();
    const { buf } = this.#storage;
    if (buf !== undefined) return buf;
    throw new DisposedError(`tensor ${this.dtype} ${show(this.shape)} was used after \`forget\` had freed its memory`, {
      hint: "only the gradient may read it then",
    });
  }

  /** Number of elements. */
  get size(): number {
    return sizeOf(this.shape);
  }

  get disposed(): boolean {
    return this.holds <= 0;
  }

  /** True if the buffer holds exactly this tensor's elements in row-major order, which is all that primitives accept. */
  get isDense(): boolean {
    return this.offset === 0 && isDense(this.shape, this.strides) && this.buf.count === this.size;
  }

  /**
   * The elements, row-major; resolves when the work that makes them is done. bf16 and f16 come as float32. Others get a turn meanwhile,
   * see `giveTurn`.
   * Rejects with the error of any earlier operation that failed on the device.
   */
  async data(): Promise<HostArray> {
    const { backend } = this;
    let buf = this.isDense ? this.buf : backend.copy(this);
    const temporaries = this.isDense ? [] : [buf];
    let dtype = this.dtype;
    if (dtype !== "float32" && dtype !== "float64" && dtype !== "int32") {
      buf = backend.cast({ buf, offset: 0, rowStride: this.shape.at(-1) ?? 1, shape: this.shape, dtype }, "float32");
      temporaries.push(buf);
      dtype = "float32";
    }
    try {
      const bytes = await backend.read(buf);
      await giveTurn();
      return dtype === "float32"
        ? new Float32Array(bytes)
        : dtype === "float64"
          ? new Float64Array(bytes)
          : new Int32Array(bytes);
    } finally {
      for (const t of temporaries) backend.free(t);
    }
  }

  /** The value of a tensor with one element. */
  async item(): Promise<number> {
    if (this.size !== 1)
      throw new InvalidArgumentError(`item: tensor ${show(this.shape)} has ${this.size} elements, not one`);
    return (await this.data())[0]!;
  }

  /** Frees the tensor; its memory goes with the last view of it. Calling it twice is harmless. */
  dispose(): void {
    disown(this);
    this.releaseOwner();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /**
   * Makes this handle look at `source`'s memory instead of its own: how a parameter or a state advances. Inside a capture, whose replays
   * know the memory and not the handle, the elements are copied to where this tensor lies, if the backend can (by `kvAppend`).
   */
  assign(source: Tensor): void {
    this.assertLive();
    source.assertLive();
    if (!source.isDense || source.size !== this.size)
      throw new InvalidArgumentError(`assign: ${show(source.shape)} cannot take the place of ${show(this.shape)}`);
    const capturing = currentCapturing();
    capturing?.use(this);
    if (capturing?.copyInto(this, source) === true) return;
    if (this.isCaptured) movedCaptured++;
    const old = this.#storage;
    this.#storage = source.#storage;
    this.#storage.views++;
    drop(old);
  }

  /** Frees the memory under this tensor and all its views, until `refill`. Only the tape calls this. */
  vacate(): void {
    const { backend } = this;
    backend.free(this.buf);
    this.#storage.buf = undefined;
  }

  /** Takes the memory of `source`, which has none then. Only the tape calls this. */
  refill(source: Tensor): void {
    if (!source.isDense || source.size !== this.size || source.dtype !== this.dtype)
      throw new InvalidArgumentError(
        `forget: ${source.dtype} ${show(source.shape)} was computed again for ${this.dtype} ${show(this.shape)}`,
      );
    this.#storage.buf = source.buf;
    source.#storage.buf = undefined;
  }

  /** Throws DisposedError once the tensor has been freed. */
  assertLive(): void {
    if (this.holds > 0) return;
    throw new DisposedError(`tensor ${this.dtype} ${show(this.shape)} was used after it had been freed`, {
      hint: "return it from scope() to keep it, or dispose it later",
      cause: this.#freedAt,
    });
  }

  toString(): string {
    return `Tensor ${this.dtype} ${show(this.shape)} on ${this.backend.name}`;
  }

  /** Ends the ownership of the scope or user that made it; a tape may still hold the tensor. */
  releaseOwner(): void {
    if (!this.#owned) return;
    this.#owned = false;
    release(this);
  }

  /** Only `release` calls this. */
  free(): void {
    if (trackFrees) this.#freedAt = new Error("freed here");
    if (this.isCaptured) movedCaptured++;
    drop(this.#storage);
  }
}

function drop(storage: Storage): void {
  if (--storage.views === 0 && storage.buf !== undefined) storage.backend.free(storage.buf);
}

let movedCaptured = 0;
/** How often a tensor that a capture relies on has been freed or has moved, of all captures together. */
export function movesOfCaptured(): number {
  return movedCaptured;
}

let trackFrees = false;
/** In development: record where each tensor is freed, so that a use after that says so (as the error's cause). Slow. */
export function traceFrees(on: boolean): void {
  trackFrees = on;
}

/** Adds an owner. */
export function hold(tensor: Tensor): Tensor {
  tensor.assertLive();
  tensor.holds++;
  return tensor;
}

/** Removes an owner; the last one frees. */
export function release(tensor: Tensor): void {
  if (--tensor.holds === 0) tensor.free();
}

/** A dense operand of a dense tensor. */
export function denseOperand(tensor: Tensor): Operand {
  return {
    buf: tensor.buf,
    offset: 0,
    rowStride: tensor.shape.at(-1) ?? 1,
    shape: tensor.shape,
    dtype: tensor.dtype,
  };
}

/** Refuses a backend written against another version of the interface. */
export function assertApiVersion(backend: Backend): void {
  if (backend.apiVersion !== API_VERSION)
    throw new UnsupportedError(
      `backend ${backend.name} implements interface version ${backend.apiVersion}; this core needs ${API_VERSION}`,
      { hint: "install versions of the backend and of @mamba-ts/tensor that belong together" },
    );
}
