/** Fourier transforms, forwards, back and their gradients, at lengths that the conformance suite is too slow for, against `backend-cpu` in float64. */
import { createBackend as createOracle } from "@mamba-ts/backend-cpu";
import { fromHost, irfft, Rng, rfft, scope, type Tensor, vjp } from "@mamba-ts/tensor";
import { createBackend } from "../../src/index.js";

const start = performance.now();
const say = (text: string): void => console.log(`${((performance.now() - start) / 1000).toFixed(2)} s: ${text}`);
const nativeFolder = process.env["MAMBA_TS_CUDA_NATIVE"];
const backend = await createBackend({ poison: true, ...(nativeFolder === undefined ? {} : { nativeFolder }) });
const oracle = await createOracle();
say(`${backend.device}, ${backend.cuda.hasCufft ? "cuFFT" : "no cuFFT"}`);

function relative(got: ArrayLike<number>, want: ArrayLike<number>): number {
  let [difference, norm] = [0, 0];
  for (let i = 0; i < want.length; i++) {
    difference += (got[i]! - want[i]!) ** 2;
    norm += want[i]! ** 2;
  }
  return got.length === want.length ? Math.sqrt(difference / Math.max(norm, 1e-30)) : Number.NaN;
}

let failed = 0;
for (const dtype of ["float32", "float64"] as const)
  for (const [rows, n] of [
    [3, 16],
    [2, 105],
    [5, 1024],
    [2, 60_000],
    [1, 2 ** 18],
  ] as const) {
    const x = Float64Array.from(new Rng(n).normal(rows * n));
    const up = Float64Array.from(new Rng(n + 1).normal(rows * (Math.floor(n / 2) + 1) * 2));
    const run = (on: typeof oracle | typeof backend, type: "float32" | "float64"): Tensor[] =>
      scope(() => {
        const [values, gy] = [
          fromHost(on, x, [rows, n], type),
          fromHost(on, up, [rows, up.length / rows / 2, 2], type),
        ];
        const y = rfft(values);
        return [y, irfft(gy, n), ...vjp(() => [rfft(values)], [values], [gy]).map((g) => g!)];
      });
    const [got, want] = [run(backend, dtype), run(oracle, "float64")];
    const errors: number[] = [];
    for (const [i, t] of want.entries())
      errors.push(relative((await got[i]!.data()) as ArrayLike<number>, (await t.data()) as ArrayLike<number>));
    const bad = errors.filter((e) => !(e <= (dtype === "float32" ? 1e-5 : 1e-12)));
    failed += bad.length;
    say(
      `${bad.length === 0 ? "ok    " : "FAILED"} ${dtype} ${rows} x ${n}: ${errors.map((e) => e.toExponential(1)).join(", ")}`,
    );
    for (const t of [...got, ...want]) t.dispose();
  }
const { liveBuffers } = backend.memory();
say(`${failed} failed, ${liveBuffers} buffers live`);
process.exitCode = failed + liveBuffers > 0 ? 1 : 0;
backend[Symbol.dispose]();
oracle[Symbol.dispose]();
