import { type Backend, UnsupportedError } from "@mamba-ts/backend";

/** A recorded computation: `replay` runs it again on whatever its input tensors hold by then. */
export interface CapturedFunction<T> extends Disposable {
  /** What `fn` returned; its tensors hold the results of the latest replay. */
  readonly result: T;
  replay(): void;
}

/**
 * Records what `fn` launches, so that it can be replayed without building it again (a CUDA graph, a list of pipelines). `fn` must read
 * nothing back and take changing inputs from tensors that are written between replays. Throws UnsupportedError where the backend
 * has no capture: check `backend.capture`.
 */
export function capture<T>(backend: Backend, fn: () => T): CapturedFunction<T> {
  if (backend.capture === undefined)
    throw new UnsupportedError(`capture: backend ${backend.name} does not record launches`, {
      hint: "run the function each time",
    });
  let result: T | undefined;
  const recorded = backend.capture(() => {
    result = fn();
  });
  return {
    result: result as T,
    replay: () => recorded.replay(),
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
