/** Shapes and strides of operands, folded so that kernels see few axes. */
import type { Shape } from "@mamba-ts/backend";

/** Number of elements. */
export function sizeOf(shape: Shape): number {
  return shape.reduce((product, n) => product * n, 1);
}

/** The shape that shapes broadcast to, which has been checked. */
export function broadcastShape(a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const [m, n] = [a[a.length - rank + i] ?? 1, b[b.length - rank + i] ?? 1];
    return m === 1 ? n : m;
  });
}

/** Splits a shape at an axis. */
export function around(shape: Shape, axis: number): { outer: number; n: number; inner: number } {
  return { outer: sizeOf(shape.slice(0, axis)), n: shape[axis]!, inner: sizeOf(shape.slice(axis + 1)) };
}

/** Strides with which a dense tensor of `shape` is read as one of shape `to`: 0 where it repeats. */
export function broadcastStrides(shape: Shape, to: Shape): number[] {
  const strides = new Array<number>(to.length).fill(0);
  let stride = 1;
  for (let i = shape.length - 1, j = to.length - 1; i >= 0; i--, j--) {
    strides[j] = shape[i] === 1 ? 0 : stride;
    stride *= shape[i]!;
  }
  return strides;
}

export interface Folded {
  readonly shape: number[];
  readonly strides: number[][];
}

/** Drops axes of size 1 and joins neighbours that every operand walks through in one stride. */
export function fold(shape: Shape, strides: readonly (readonly number[])[]): Folded {
  const folded: Folded = { shape: [], strides: strides.map(() => []) };
  shape.forEach((n, d) => {
    if (n === 1) return;
    const last = folded.shape.length - 1;
    const joins = last >= 0 && strides.every((s, k) => folded.strides[k]![last] === s[d]! * n);
    if (joins) {
      folded.shape[last] = folded.shape[last]! * n;
      for (const [k, s] of strides.entries()) folded.strides[k]![last] = s[d]!;
    } else {
      folded.shape.push(n);
      for (const [k, s] of strides.entries()) folded.strides[k]!.push(s[d]!);
    }
  });
  return folded;
}

type Four = [number, number, number, number];

/** The last four entries, with `filling` before them; `skip` leaves out so many at the end. */
export function four(values: readonly number[], filling: number, skip = 0): Four {
  const end = values.length - skip;
  return [4, 3, 2, 1].map((back) => (end - back >= 0 ? values[end - back]! : filling)) as Four;
}

/** Threads that share a row of so many elements: enough to fill a large device, few enough that none is idle in a short row. */
export function threadsFor(width: number): number {
  return width <= 128 ? 32 : width <= 512 ? 64 : width <= 2048 ? 128 : 256;
}
