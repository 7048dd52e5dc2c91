import type { Shape } from "@mamba-ts/backend";

export function sizeOf(shape: Shape): number {
  return shape.reduce((a, b) => a * b, 1);
}

/** The shape two operands broadcast to, as in NumPy. */
export function broadcast(a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const [m, n] = [a[i - rank + a.length] ?? 1, b[i - rank + b.length] ?? 1];
    return m === 1 ? n : m;
  });
}

/** For each element of `shape` in order: where it lies in an operand of shape `from`, broadcast. */
export function positions(shape: Shape, from: Shape): (i: number) => number {
  const skip = shape.length - from.length;
  return (i) => {
    let [position, stride] = [0, 1];
    for (let d = shape.length - 1; d >= 0; d--) {
      const n = shape[d]!;
      const index = i % n;
      i = Math.floor(i / n);
      const own = from[d - skip];
      if (own === undefined) continue;
      if (own !== 1) position += index * stride;
      stride *= own;
    }
    return position;
  };
}

/** A shape around one axis: element (o, k, i) of it is element (o * n + k) * inner + i. */
export function around(shape: Shape, axis: number): { outer: number; n: number; inner: number } {
  return { outer: sizeOf(shape.slice(0, axis)), n: shape[axis]!, inner: sizeOf(shape.slice(axis + 1)) };
}
