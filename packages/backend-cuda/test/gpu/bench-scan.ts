/**
 * Times of the scan at the shapes that are compared with the reference's (medians of 20, by events), with the copy bandwidth of the same run.
 * `node bench-scan.mjs 0 2`: only those rows.
 */
import type { FloatDType } from "@mamba-ts/backend";
import { scope, selectiveScan, vjp } from "@mamba-ts/tensor";
import { type CudaBackend, createBackend } from "../../src/index.js";
import { medianMs, random, scanInputs } from "./support/scan-inputs.js";

const nativeFolder = process.env["MAMBA_TS_CUDA_NATIVE"];
const backend: CudaBackend = await createBackend(nativeFolder === undefined ? {} : { nativeFolder });
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

const big = backend.alloc(2 ** 28, "float32");
const copyMs = await medianMs(backend, () => backend.free(backend.cuda.copyOf(backend.cuda.own(big))));
backend.free(big);
const bandwidth = (2 * 2 ** 30) / copyMs / 1e9;
console.log(`${backend.device}; copy ${bandwidth.toFixed(2)} TB/s (bytes read and written)`);
console.log("dtype    batch dInner length  forward ms (ratio, of copy)  backward ms (ratio, of copy)");
const wanted = process.argv.slice(2).map(Number);
for (const [i, [dtype, batch, dInner, length, refForward, refBackward]] of rows.entries()) {
  if (wanted.length > 0 && !wanted.includes(i)) continue;
  const tensors = scanInputs(backend, dtype, batch, length, dInner);
  const gy = random(backend, [batch, length, dInner], dtype);
  const forward = await medianMs(backend, () => scope(() => void selectiveScan({ ...tensors, softplus: true })));
  const both = await medianMs(backend, () =>
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
  const saving = await medianMs(backend, () =>
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
