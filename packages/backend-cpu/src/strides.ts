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
    const m = a[a.length - rank + i] ?? 1;
    const n = b[b.length - rank + i] ?? 1;
    return m === 1 ? n : m;
  });
}

/**
 * Maps the number of a row of a broadcast result (leading axes `lead`) to the index in an operand of shape `shape` where its row
 * starts. The last axis is the caller's.
 */
export function indexerOf(shape: Shape, lead: Shape): (row: number) => number {
  const own = shape.slice(0, -1);
  let stride = shape.at(-1) ?? 1;
  const strides = new Array<number>(lead.length).fill(0);
  for (let i = own.length - 1, j = lead.length - 1; i >= 0; i--, j--) {
    strides[j] = own[i] === 1 ? 0 : stride;
    stride *= own[i]!;
  }
  if (strides.every((s) => s === 0)) return () => 0;
  return (row) => {
    let index = 0;
    for (let j = lead.length - 1; j >= 0; j--) {
      const n = lead[j]!;
      const next = Math.floor(row / n);
      index += (row - next * n) * strides[j]!;
      row = next;
    }
    return index;
  };
}

/** Splits a shape at an axis: elements before it, of it, and after it. */
export function around(shape: Shape, axis: number): { outer: number; n: number; inner: number } {
  return { outer: sizeOf(shape.slice(0, axis)), n: shape[axis]!, inner: sizeOf(shape.slice(axis + 1)) };
}
