import type { FusedOps } from "@mamba-ts/backend";
import { fftPlan, isSmooth, runFft } from "../fft-plan.js";
import type { CpuMemory } from "../storage.js";
import { type Floats, floats, output } from "../values.js";

type Op = NonNullable<FusedOps["fft"]>;

/** Real transforms of even lengths without prime factors above 7, as complex ones of half the length, in float64. */
export function fft(memory: CpuMemory): Op {
  return {
    supports: ({ n }) => n % 2 === 0 && isSmooth(n),
    forward: ({ x }, { rows, n, inverse, dtype }) => {
      const values = floats(memory, x);
      const width = 2 * (n / 2 + 1);
      const y = output(memory, rows * (inverse ? n : width), dtype);
      const turns = halfTurns(n);
      for (let row = 0; row < rows; row++)
        if (inverse) backwards(values, row * width, y.values as Floats, row * n, n, turns);
        else forwards(values, row * n, y.values as Floats, row * width, n, turns);
      return { outputs: { y: y.finish() }, saved: [] };
    },
  };
}

/** exp(-2 pi i k / n) for k <= n / 2, parts interleaved. */
function halfTurns(n: number): Float64Array {
  return Float64Array.from({ length: n + 2 }, (_, i) => {
    const angle = (2 * Math.PI * (i >> 1)) / n;
    return i % 2 === 0 ? Math.cos(angle) : -Math.sin(angle);
  });
}

/** Even and odd samples as one complex signal z; its transform holds theirs, E and O: X[k] = E[k] + exp(-2 pi i k / n) O[k]. */
function forwards(x: Floats, from: number, y: Floats, to: number, n: number, turns: Float64Array): void {
  const half = n / 2;
  const plan = fftPlan(half);
  plan.work[0].set(x.subarray(from, from + n));
  const z = runFft(plan);
  for (let k = 0; k <= half; k++) {
    const a = 2 * (k % half);
    const b = 2 * ((half - k) % half);
    const er = (z[a]! + z[b]!) / 2;
    const ei = (z[a + 1]! - z[b + 1]!) / 2;
    const or = (z[a + 1]! + z[b + 1]!) / 2;
    const oi = (z[b]! - z[a]!) / 2;
    const c = turns[2 * k]!;
    const s = turns[2 * k + 1]!;
    y[to + 2 * k] = er + c * or - s * oi;
    y[to + 2 * k + 1] = ei + c * oi + s * or;
  }
}

/** The same steps back; a forward transform of the conjugate is the inverse one. */
function backwards(y: Floats, from: number, x: Floats, to: number, n: number, turns: Float64Array): void {
  const half = n / 2;
  const plan = fftPlan(half);
  const z = plan.work[0];
  for (let k = 0; k < half; k++) {
    const [a, b] = [from + 2 * k, from + 2 * (half - k)];
    const ai = k === 0 ? 0 : y[a + 1]!; // imaginary parts of the real bins do not count
    const bi = k === 0 ? 0 : y[b + 1]!;
    const er = (y[a]! + y[b]!) / 2;
    const ei = (ai - bi) / 2;
    const dr = (y[a]! - y[b]!) / 2;
    const di = (ai + bi) / 2;
    const c = turns[2 * k]!;
    const s = -turns[2 * k + 1]!;
    z[2 * k] = er - (c * di + s * dr);
    z[2 * k + 1] = -(ei + (c * dr - s * di));
  }
  const out = runFft(plan);
  for (let j = 0; j < half; j++) {
    x[to + 2 * j] = out[2 * j]! / half;
    x[to + 2 * j + 1] = -out[2 * j + 1]! / half;
  }
}
