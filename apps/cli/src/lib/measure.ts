import type { Backend } from "@mamba-ts/backend";
import { type DispatchEvent, fromHost, giveTurn, matmul, Rng, scope } from "@mamba-ts/tensor";

/** Events of one op that ran in one direction and one way. */
export type DispatchCount = DispatchEvent & { readonly times: number };

/** Counts what `run` reports, in the order of the first of each kind. */
export function countDispatches(run: (onEvent: (event: DispatchEvent) => void) => void): DispatchCount[] {
  const seen = new Map<string, DispatchCount>();
  run((event) => {
    const key = `${event.op} ${event.direction} ${event.how}`;
    seen.set(key, { ...event, times: (seen.get(key)?.times ?? 0) + 1 });
  });
  return [...seen.values()];
}

/** Median time of `run` in seconds, until the device is done; the first run only warms up. */
export async function medianSeconds(
  backend: Backend,
  run: () => void,
  runs: number,
  signal?: AbortSignal,
): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i <= runs; i++) {
    signal?.throwIfAborted();
    const start = performance.now();
    run();
    await backend.synchronize();
    if (i > 0) times.push((performance.now() - start) / 1000);
    await giveTurn();
  }
  times.sort((a, b) => a - b);
  return (times[(runs - 1) >> 1]! + times[runs >> 1]!) / 2;
}

/** Multiply-adds per second of a product of two 512 x 512 matrices in float32. */
export async function matmulRate(backend: Backend, runs: number, signal?: AbortSignal): Promise<number> {
  const n = 512;
  const rng = new Rng(1);
  const matrix = () => fromHost(backend, Float32Array.from(rng.normal(n * n)), [n, n], "float32");
  using a = matrix();
  using b = matrix();
  return n ** 3 / (await medianSeconds(backend, () => scope(() => void matmul(a, b)), runs, signal));
}
