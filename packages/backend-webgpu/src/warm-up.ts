/** Compiles ahead of the work that will need it, on the driver's own threads, and says how far it is. */
import { type Backend, InvalidArgumentError } from "@mamba-ts/backend";
import type { Gpu } from "./gpu/gpu.js";

export interface WarmUpOptions {
  /** Called before the first pipeline and after each. */
  readonly onProgress?: (progress: { readonly done: number; readonly total: number }) => void;
  readonly signal?: AbortSignal;
}

const devices = new WeakMap<Backend, Gpu>();

export function rememberDevice(backend: Backend, gpu: Gpu): void {
  devices.set(backend, gpu);
}

/** Compiled at once: enough for the driver's threads, few enough that an abort is soon noticed. */
const AT_ONCE = 8;

/**
 * Compiles the pipelines that `fn` would need, so that the first such work does not wait for them: a browser compiles each when it is
 * first used, and meanwhile runs nothing else.
 * @param fn - the work: operations on this backend's tensors. It is called once, but nothing is computed: its results are meaningless,
 * and what it writes in place on the device stays as it was. What it does on the host does happen: use an optimizer of its own.
 * @returns how many were compiled
 * @throws InvalidArgumentError if the backend is not of this package, BackendError if a kernel cannot be compiled, or the signal's reason
 */
export async function warmUp(
  backend: Backend,
  fn: () => void,
  { onProgress, signal }: WarmUpOptions = {},
): Promise<number> {
  const gpu = devices.get(backend);
  if (gpu === undefined)
    throw new InvalidArgumentError(`warmUp: ${backend.name} is no backend of @mamba-ts/backend-webgpu`);
  signal?.throwIfAborted();
  const waiting = gpu.needs(fn);
  const total = waiting.length;
  let done = 0;
  onProgress?.({ done, total });
  const work = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      signal?.throwIfAborted();
      await next.make();
      onProgress?.({ done: ++done, total });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  await gpu.faults.report();
  return total;
}
