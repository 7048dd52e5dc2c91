import type { Backend, FloatDType } from "@mamba-ts/backend";
import { cast, concat, fromHost, Rng, reshape, scope, slice, type Tensor } from "@mamba-ts/tensor";
import type { CudaBackend } from "../../../src/index.js";

/** The median of `runs` runs in milliseconds, by events. */
export async function medianMs(backend: CudaBackend, run: () => void, runs = 20): Promise<number> {
  const { native } = backend.cuda;
  for (let i = 0; i < 3; i++) run();
  const marks: [number, number][] = [];
  for (let i = 0; i < runs; i++) {
    const start = native.record();
    run();
    marks.push([start, native.record()]);
  }
  await backend.synchronize();
  const times = marks.map(([a, b]) => native.elapsed(a, b)).sort((a, b) => a - b);
  return (times[(runs - 1) >> 1]! + times[runs >> 1]!) / 2;
}

/** Normal numbers; up to 2^18 are drawn and then repeated on the device, for drawing them on the host is slow. */
export function random(
  backend: Backend,
  shape: number[],
  dtype: FloatDType,
  f: (u: number) => number = (u) => u,
): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  const some = Float32Array.from(new Rng(size % 1000).normal(Math.min(size, 2 ** 18)), f);
  return scope(() => {
    let all = cast(fromHost(backend, some, [some.length], "float32"), dtype);
    while (all.size < size) all = concat([all, slice(all, 0, 0, Math.min(all.size, size - all.size))], 0);
    return reshape(all, shape);
  });
}

/** What the scan takes with every option but an initial state, dState 16. */
export function scanInputs(backend: Backend, dtype: FloatDType, batch: number, length: number, dInner: number) {
  const wide = [batch, length, dInner];
  const narrow = [batch, length, 16];
  return {
    x: random(backend, wide, dtype),
    delta: random(backend, wide, dtype, (u) => 0.5 * u - 3),
    A: random(backend, [dInner, 16], "float32", (u) => -0.5 - Math.abs(u)),
    B: random(backend, narrow, dtype),
    C: random(backend, narrow, dtype),
    D: random(backend, [dInner], "float32"),
    z: random(backend, wide, dtype),
    deltaBias: random(backend, [dInner], "float32"),
  };
}
