import { BackendError, type FusedOps } from "@mamba-ts/backend";
import type { CudaDevice } from "../device.js";
import { f64, i32, i64 } from "../launch.js";

/** cuFFT counts in 32 bits. */
const MOST = 2 ** 31 - 1;

/** Real transforms by cuFFT, where the library is found. Its gradient is the other direction. */
export function fft(device: CudaDevice): NonNullable<FusedOps["fft"]> {
  return {
    supports: ({ rows, n, dtype }) =>
      device.hasCufft && (dtype === "float32" || dtype === "float64") && rows > 0 && n > 1 && rows <= MOST && n <= MOST,
    forward({ x }, { rows, n, inverse, dtype }) {
      const bins = Math.floor(n / 2) + 1;
      const y = device.alloc(rows * (inverse ? n : 2 * bins), dtype);
      // The inverse transform writes over what it reads, and is not normalised.
      const scratch = inverse ? device.alloc(rows * 2 * bins, dtype) : undefined;
      const from = device.own(x);
      if (scratch !== undefined) {
        const parameters = [from, scratch, i64([rows, bins]), i32(n % 2 === 0), f64(1 / n)];
        device.each("fft", `fft_prepare_${dtype}`, rows * bins * 2, parameters);
      }
      try {
        device.native.fft(n, rows, inverse, dtype === "float64", (scratch ?? from).pointer, y.pointer);
        device.memory.launched([y]);
      } catch (cause) {
        throw new BackendError(
          `cuda: ${inverse ? "irfft" : "rfft"} of ${rows} rows of ${n} ${dtype}: ${(cause as Error).message}`,
          { cause },
        );
      }
      if (scratch !== undefined) device.memory.free(scratch);
      return { outputs: { y }, saved: [] };
    },
  };
}
