import type { Shape } from "@mamba-ts/backend";

/** Number of elements. */
export function sizeOf(shape: Shape): number {
  let n = 1;
  for (const m of shape) n *= m;
  return n;
}

/** Splits a shape at an axis: elements before it, of it, and after it. */
export function around(shape: Shape, axis: number): { outer: number; n: number; inner: number } {
  return { outer: sizeOf(shape.slice(0, axis)), n: shape[axis]!, inner: sizeOf(shape.slice(axis + 1)) };
}

/** Distances between neighbours along each axis of a dense tensor. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  for (let d = shape.length - 1, stride = 1; d >= 0; d--) {
    strides[d] = stride;
    stride *= shape[d]!;
  }
  return strides;
}

/** The shape that two shapes broadcast to, which has been checked. */
export function broadcastShape(a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const m = a[a.length - rank + i] ?? 1;
    const n = b[b.length - rank + i] ?? 1;
    return m === 1 ? n : m;
  });
}

/** How far a step along each of `rank` axes goes in a dense operand, aligned at the last one; 0 where it is broadcast. */
export function broadcastSteps(shape: Shape, rank: number): number[] {
  const own = stridesOf(shape).map((stride, d) => (shape[d] === 1 ? 0 : stride));
  return [...new Array<number>(rank - shape.length).fill(0), ...own];
}

/**
 * The fewest axes that walk `shape` with these steps per operand: those of size 1 vanish, and neighbours that every operand crosses
 * alike become one. Flat: the lengths, then each operand's steps, as the kernels read them.
 */
export function mergeAxes(shape: Shape, steps: readonly (readonly number[])[]): { rank: number; spec: number[] } {
  const lengths: number[] = [];
  const merged: number[][] = steps.map(() => []);
  for (const [d, n] of shape.entries()) {
    if (n === 1) continue;
    const last = lengths.length - 1;
    if (last >= 0 && steps.every((own, k) => merged[k]![last] === own[d]! * n)) {
      lengths[last]! *= n;
      for (const [k, own] of steps.entries()) merged[k]![last] = own[d]!;
    } else {
      lengths.push(n);
      for (const [k, own] of steps.entries()) merged[k]!.push(own[d]!);
    }
  }
  return { rank: lengths.length, spec: [...lengths, ...merged.flat()] };
}
