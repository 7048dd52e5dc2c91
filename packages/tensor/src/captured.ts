import { type Backend, type Buf, DisposedError, type Operand, UnsupportedError } from "@mamba-ts/backend";
import { kernelFor } from "./dispatch.js";
import { type Capturing, withCapturing } from "./recorder.js";
import { denseOperand, movesOfCaptured, type Tensor, tensorsMade } from "./tensor.js";

/** A recorded computation: `replay` runs it again on whatever its input tensors hold by then. */
export interface CapturedFunction<T> extends Disposable {
  /** What `fn` returned; its tensors hold the results of the latest replay. */
  readonly result: T;
  /**
   * False once a tensor from outside that `fn` used has been freed, or looks at other memory than it did: what was recorded is then no
   * longer what `fn` would do. So it is right after recording where `fn` itself moved one, as `Tensor.assign` does.
   */
  readonly isCurrent: boolean;
  /** Throws DisposedError unless `isCurrent`. */
  replay(): void;
}

/**
 * Runs `fn`, and records what it launches, so that it can be replayed without building it again (a CUDA graph, a list of pipelines).
 * `fn` must read nothing back and take changing inputs from tensors that are written between replays. Throws UnsupportedError where
 * the backend has no capture: check `backend.capture`.
 */
export function capture<T>(backend: Backend, fn: () => T): CapturedFunction<T> {
  if (backend.capture === undefined)
    throw new UnsupportedError(`capture: backend ${backend.name} does not record launches`, {
      hint: "run the function each time",
    });
  const uses = new Map<Tensor, Buf>();
  const made = tensorsMade();
  const capturing: Capturing = {
    use(tensor) {
      if (tensor.id >= made || uses.has(tensor)) return;
      uses.set(tensor, tensor.buf);
      tensor.isCaptured = true;
    },
    copyInto,
  };
  let result: T | undefined;
  const recorded = backend.capture(() => {
    result = withCapturing(capturing, fn);
  });
  let checkedAt = -1;
  const isCurrent = (): boolean => {
    const now = movesOfCaptured();
    // Before each replay: looking at hundreds of weights would take as long as launching a few kernels.
    if (now === checkedAt) return true;
    for (const [tensor, buf] of uses) if (tensor.disposed || tensor.buf !== buf) return false;
    checkedAt = now;
    return true;
  };
  return {
    result: result as T,
    get isCurrent() {
      return isCurrent();
    },
    replay: () => {
      if (!isCurrent())
        throw new DisposedError("capture: a tensor that was recorded has been freed or given other memory since", {
          hint: "record it again",
        });
      recorded.replay();
    },
    [Symbol.dispose]: () => recorded[Symbol.dispose](),
  };
}

/** By the kernel of `kvAppend`, which writes where its cache lies. */
function copyInto(tensor: Tensor, source: Tensor): boolean {
  const { backend, buf, dtype, size: width } = tensor;
  if (buf === source.buf) return true;
  if (dtype === "int32" || dtype !== source.dtype || !tensor.isDense) return false;
  const descriptor = { batch: 1, capacity: 1, length: 1, width, position: 0, dtype };
  const kernel = kernelFor(backend, "kvAppend", descriptor);
  if (kernel === undefined) return false;
  const row = (of: Tensor): Operand => ({ ...denseOperand(of), rowStride: width, shape: [1, 1, width] });
  kernel.op.forward({ cache: row(tensor), update: row(source) }, descriptor, { save: false });
  return true;
}
