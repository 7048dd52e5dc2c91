import type { DenseSystem } from "@mamba-ts/ssm";

/** A mass on a spring with friction, position'' = u - position' / 2 - 9 position: state (position, velocity), output the position. */
export const oscillator: DenseSystem = {
  form: "dense",
  A: Float64Array.of(0, 1, -9, -0.5),
  B: Float64Array.of(0, 9),
  C: Float64Array.of(1, 0),
};

/** A push of one unit from time 1 to time 4. */
export const push = (t: number): number => (t >= 1 && t < 4 ? 1 : 0);

/** n + 1 numbers from a to b. */
export function spaced(a: number, b: number, n: number): Float64Array {
  return Float64Array.from({ length: n + 1 }, (_, i) => a + ((b - a) * i) / n);
}

/** max |x - y| */
export function largestDifference(x: Float64Array, y: Float64Array): number {
  return x.reduce((m, v, i) => Math.max(m, Math.abs(v - y[i]!)), 0);
}
