/** Times of the scan at the shapes that are compared with the reference's (medians of 20, by events), with the copy bandwidth of the same run. */
import type { FloatDType } from "@mamba-ts/backend";
import { cast, fromHost, Rng, scope, selectiveScan, type Tensor, vjp } from "@mamba-ts/tensor";
import { type CudaBackend, createBackend } from "../../src/index.js";

const nativeFolder = process.env["MAMBA_TS_CUDA_NATIVE"];
const backend: CudaBackend = await createBackend(nativeFolder === undefined ? {} : { nativeFolder });
const { native } = backend.cuda;
const dState = 16;
/** dtype, batch, dInner, length, and the reference's milliseconds on an H100, forward and backward (state-spaces/mamba e9594ce). */
const rows: [FloatDType, number, number, number, number, number][] = [
  ["bf16", 8, 1536, 2048, 0.4522, 1.8484],
  ["bf16", 1, 1536, 16384, 0.5744, 2.038],
  ["bf16", 1, 5120, 2048, 0.2042, 0.8718],
  ["bf16", 8, 2048, 512, 0.1503, 0.5651],
  ["bf16", 1, 1536, 131072, 4.5491, 15.6088],
  ["float32", 8, 1536, 2048, 0.8865, 2.0632],
  ["float32", 1, 1536, 16384, 1.0056, 2.2177],
  ["float32", 1, 5120, 2048, 0.3927, 0.9281],
  ["float32", 8, 2048, 512, 0.3146, 0.738],
  ["float32", 1, 1536, 131072, 7.9574, 17.7142],
];

async function medianMs(run: () => void, runs = 20): Promise<number> {
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

function random(shape: number[], dtype: FloatDType, f: (u: number) => number = (u) => u): Tensor {
  // A million numbers, repeated: drawing them on the host is slow.
  const size = shape.reduce((a, b) => a * b, 1);
  const some = Float32Array.from(new Rng(size % 1000).normal(Math.min(size, 2 ** 20)), f);
  const all = new Float32Array(size);
  for (let i = 0; i < size; i += some.length) all.set(some.subarray(0, Math.min(some.length, size - i)), i);
  return scope(() => cast(fromHost(backend, all, shape, "float32"), dtype));
}

const big = backend.alloc(2 ** 28, "float32");
const copyMs = await medianMs(() => backend.free(backend.cuda.copyOf(backend.cuda.own(big))));
backend.free(big);
const bandwidth = (2 * 2 ** 30) / copyMs / 1e9;
console.log(`${backend.device}; copy ${bandwidth.toFixed(2)} TB/s (bytes read and written)`);
console.log("dtype    batch dInner length  forward ms (ratio, of copy)  backward ms (ratio, of copy)");
for (const [dtype, batch, dInner, length, refForward, refBackward] of rows) {
  const wide = [batch, length, dInner];
  const tensors = {
    x: random(wide, dtype),
    delta: random(wide, dtype, (u) => 0.5 * u - 3),
    A: random([dInner, dState], "float32", (u) => -0.5 - Math.abs(u)),
    B: random([batch, length, dState], dtype),
    C: random([batch, length, dState], dtype),
    D: random([dInner], "float32"),
    z: random(wide, dtype),
    deltaBias: random([dInner], "float32"),
  };
  const gy = random(wide, dtype);
  const forward = await medianMs(() => scope(() => void selectiveScan({ ...tensors, softplus: true })));
  const both = await medianMs(() =>
    scope(
      () =>
        void vjp(
          () => {
            const { y } = selectiveScan({ ...tensors, softplus: true });
            return [y];
          },
          Object.values(tensors),
          [gy],
        ),
    ),
  );
  const saving = await medianMs(() =>
    scope(() => void vjp(() => [selectiveScan({ ...tensors, softplus: true }).y], Object.values(tensors), [undefined])),
  );
  const backward = both - saving;
  const bytes = batch * length * dInner * (dtype === "bf16" ? 2 : 4);
  const fraction = (ms: number, arrays: number): string => ((100 * arrays * bytes) / (ms * bandwidth * 1e9)).toFixed(0);
  console.log(
    `${dtype.padEnd(8)} ${batch} ${dInner} ${length}  ${forward.toFixed(4)} (${(refForward / forward).toFixed(2)}x, ${fraction(forward, 4)} %)  ${backward.toFixed(4)} (${(refBackward / backward).toFixed(2)}x, ${fraction(backward, 8)} %), forward saving ${saving.toFixed(4)}`,
  );
  for (const t of [...Object.values(tensors), gy]) t.dispose();
}
backend[Symbol.dispose]();
