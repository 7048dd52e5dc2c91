import { InvalidArgumentError, type Shape, ShapeError } from "@mamba-ts/backend";

/** Number of elements of a shape; exact up to 2^53. */
export function sizeOf(shape: Shape): number {
  let size = 1;
  for (const n of shape) size *= n;
  return size;
}

/** Row-major strides, in elements. */
export function denseStrides(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= shape[i]!;
  }
  return strides;
}

/** True if a view with these strides lies in memory exactly as a dense tensor of its shape does. */
export function isDense(shape: Shape, strides: readonly number[]): boolean {
  let stride = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && strides[i] !== stride) return false;
    stride *= shape[i]!;
  }
  return true;
}

/** Whether two shapes have the same sizes in the same order. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((n, i) => n === b[i]);
}

/** The shape two operands broadcast to, as in NumPy; throws ShapeError naming `op`. */
export function broadcastShapes(op: string, a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  const out = new Array<number>(rank);
  for (let i = 1; i <= rank; i++) {
    const m = a[a.length - i] ?? 1;
    const n = b[b.length - i] ?? 1;
    if (m !== n && m !== 1 && n !== 1)
      throw new ShapeError(`${op}: shapes do not broadcast: ${show(a)} and ${show(b)}`);
    out[rank - i] = m === 1 ? n : m;
  }
  return out;
}

/** Turns a possibly negative axis into an index of `shape`; throws InvalidArgumentError. */
export function resolveAxis(op: string, axis: number, rank: number): number {
  const resolved = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || resolved < 0 || resolved >= rank)
    throw new InvalidArgumentError(`${op}: axis ${axis} is outside a tensor of rank ${rank}`);
  return resolved;
}

export function show(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

/** Throws ShapeError unless `shape` is `want`; `name` and `op` say whose. */
export function expectShape(op: string, name: string, shape: Shape, want: Shape, hint?: string): void {
  if (!sameShape(shape, want)) throw new ShapeError(`${op}: ${name} is ${show(shape)}, not ${show(want)}`, { hint });
}

/** Throws ShapeError unless `shape` has as many axes as `axes` names; returns the sizes. */
export function expectRank(op: string, name: string, shape: Shape, axes: readonly string[]): number[] {
  if (shape.length !== axes.length) throw new ShapeError(`${op}: ${name} is ${show(shape)}, not [${axes.join(", ")}]`);
  return [...shape];
}
