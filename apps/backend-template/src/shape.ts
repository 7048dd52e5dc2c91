import type { Shape } from "@mamba-ts/backend";

/** Number of elements; 1 for a scalar, 0 where an axis is empty. */
export function sizeOf(shape: Shape): number {
  return shape.reduce((n, m) => n * m, 1);
}

/** The shape two operands broadcast to, by NumPy's rule; that they do has been checked by the caller. */
export function broadcastShape(a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, axis) => {
    const m = a[a.length - rank + axis] ?? 1;
    const n = b[b.length - rank + axis] ?? 1;
    return m === 1 ? n : m;
  });
}

/** Maps the position of an element in a result of shape `to` to that of the element of `shape` broadcast there. */
export function broadcastIndex(shape: Shape, to: Shape): (i: number) => number {
  if (sizeOf(shape) === sizeOf(to)) return (i) => i;
  return (i) => {
    let [rest, position, stride] = [i, 0, 1];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const n = to[to.length - shape.length + axis]!;
      if (shape[axis] !== 1) position += (rest % n) * stride;
      rest = Math.floor(rest / n);
      stride *= shape[axis]!;
    }
    return position;
  };
}

/** A shape seen from one axis, as [outer, n, inner]: the elements before it, of it, and after it. */
export function around(shape: Shape, axis: number): { outer: number; n: number; inner: number } {
  return { outer: sizeOf(shape.slice(0, axis)), n: shape[axis]!, inner: sizeOf(shape.slice(axis + 1)) };
}
