import type { Shape } from "@mamba-ts/backend";

/** Number of elements. */
export function sizeOf(shape: Shape): number {
  let n = 1;
  for (const m of shape) n *= m;
  return n;
}

/** The shape that two shapes broadcast to, which has been checked. */
export function broadcastShape(a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const [m, n] = [a[a.length - rank + i] ?? 1, b[b.length - rank + i] ?? 1];
    return m === 1 ? n : m;
  });
}

/** Strides of a dense operand aligned with the last of `rank` axes; 0 where it is broadcast. */
export function broadcastStrides(own: Shape, rank: number): number[] {
  const strides = new Array<number>(rank).fill(0);
  let stride = 1;
  for (let d = own.length - 1, to = rank - 1; d >= 0; d--, to--) {
    strides[to] = own[d] === 1 ? 0 : stride;
    stride *= own[d]!;
  }
  return strides;
}

export interface MergedAxes {
  readonly size: number[];
  /** Per operand. */
  readonly strides: number[][];
}

/** The fewest axes that walk `shape` the same way: those of size 1 vanish, neighbours that every operand crosses alike become one. */
export function mergeAxes(shape: Shape, strides: readonly (readonly number[])[]): MergedAxes {
  const merged: MergedAxes = { size: [], strides: strides.map(() => []) };
  shape.forEach((n, d) => {
    if (n === 1) return;
    const last = merged.size.length - 1;
    const isNext = last >= 0 && strides.every((s, k) => merged.strides[k]![last] === s[d]! * n);
    if (isNext) {
      merged.size[last]! *= n;
      strides.forEach((s, k) => {
        merged.strides[k]![last] = s[d]!;
      });
    } else {
      merged.size.push(n);
      strides.forEach((s, k) => {
        merged.strides[k]!.push(s[d]!);
      });
    }
  });
  return merged;
}

/** Splits a shape at an axis: elements before it, of it, and after it. */
export function around(shape: Shape, axis: number): { outer: number; n: number; inner: number } {
  return { outer: sizeOf(shape.slice(0, axis)), n: shape[axis]!, inner: sizeOf(shape.slice(axis + 1)) };
}
