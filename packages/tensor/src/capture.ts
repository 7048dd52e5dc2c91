import { type Backend, type Buf, DisposedError, UnsupportedError } from "@mamba-ts/backend";
import { watchUses } from "./recorder.js";
import { movesOfCaptured, type Tensor, tensorsMade } from "./tensor.js";

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
  const note = (tensor: Tensor): void => {
    if (tensor.id >= made || uses.has(tensor)) return;
    uses.set(tensor, tensor.buf);
    tensor.isCaptured = true;
  };
  let result: T | undefined;
  const recorded = backend.capture(() => {
    result = watchUses(note, fn);
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

/** Overwrites a tensor's elements in place from the host: the way inputs reach a captured function. */
export function write(
  t: { readonly backend: Backend; readonly buf: Parameters<Backend["write"]>[0] },
  data: ArrayBufferView,
): void {
  t.backend.write(t.buf, data);
}
