import { InvalidArgumentError, type Shape, ShapeError } from "@mamba-ts/backend";
import { fill } from "../create.js";
import { record, touch } from "../recorder.js";
import { denseCopy } from "../run.js";
import { isDense, resolveAxis, sameShape, show, sizeOf } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { sumTo } from "./binary.js";
import { concat, pad } from "./join.js";

/** The same elements under another shape; one size may be -1. A view where the memory allows it, else a copy. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const target = inferSize(x, shape);
  if (sameShape(target, x.shape)) return x;
  touch(x);
  const y = isDense(x.shape, x.strides) ? x.view(target) : reshapeCopy(x, target);
  record([x], [y], [], ([g]) => [() => reshape(g!, x.shape)]);
  return y;
}

function reshapeCopy(x: Tensor, shape: Shape): Tensor {
  const copy = denseCopy(x);
  const y = copy.view(shape);
  copy.dispose();
  return y;
}

function inferSize(x: Tensor, shape: Shape): number[] {
  const rest = shape.reduce((n, m) => (m === -1 ? n : n * m), 1);
  const target = shape.map((n) => (n === -1 ? (rest === 0 ? 0 : x.size / rest) : n));
  if (shape.filter((n) => n === -1).length > 1 || sizeOf(target) !== x.size || !target.every(Number.isInteger))
    throw new ShapeError(`reshape: ${show(x.shape)} has ${x.size} elements, which do not fill ${show(shape)}`);
  return target;
}

/** Reorders the axes: axis i of the result is axis `axes[i]` of x. A view. */
export function permute(x: Tensor, axes: readonly number[]): Tensor {
  const order = axes.map((a) => resolveAxis("permute", a, x.shape.length));
  if (new Set(order).size !== x.shape.length)
    throw new InvalidArgumentError(`permute: [${axes.join(", ")}] is not an order of the axes of ${show(x.shape)}`);
  touch(x);
  const y = x.view(
    order.map((a) => x.shape[a]!),
    order.map((a) => x.strides[a]!),
  );
  record([x], [y], [], ([g]) => [
    () =>
      permute(
        g!,
        order.map((_, i) => order.indexOf(i)),
      ),
  ]);
  return y;
}

/** Exchanges two axes (the last two by default). A view. */
export function transpose(x: Tensor, first = -1, second = -2): Tensor {
  const a = resolveAxis("transpose", first, x.shape.length);
  const b = resolveAxis("transpose", second, x.shape.length);
  return permute(
    x,
    x.shape.map((_, i) => (i === a ? b : i === b ? a : i)),
  );
}

/** Elements start … end - 1 along an axis; negative positions count from the end. A view. */
export function slice(
  x: Tensor,
  axisOrNegative: number,
  start: number,
  end: number = Number.POSITIVE_INFINITY,
): Tensor {
  const axis = resolveAxis("slice", axisOrNegative, x.shape.length);
  const n = x.shape[axis]!;
  const clamp = (i: number): number => Math.min(n, Math.max(0, i < 0 ? n + i : i));
  const from = clamp(start);
  const to = Math.max(from, clamp(end));
  if (from === 0 && to === n) return x;
  touch(x);
  const y = x.view(
    x.shape.map((m, i) => (i === axis ? to - from : m)),
    x.strides,
    x.offset + from * x.strides[axis]!,
  );
  record([x], [y], [], ([g]) => [() => pad(g!, axis, from, n - to)]);
  return y;
}

/** Cuts an axis into pieces of the given sizes. Views; the gradient is one concatenation. */
export function split(x: Tensor, sizes: readonly number[], axisOrNegative = -1): Tensor[] {
  const axis = resolveAxis("split", axisOrNegative, x.shape.length);
  if (sizes.reduce((a, b) => a + b, 0) !== x.shape[axis])
    throw new ShapeError(`split: sizes [${sizes.join(", ")}] do not add up to axis ${axis} of ${show(x.shape)}`);
  touch(x);
  let from = 0;
  const parts = sizes.map((n) => {
    const part = x.view(
      x.shape.map((m, i) => (i === axis ? n : m)),
      x.strides,
      x.offset + from * x.strides[axis]!,
    );
    from += n;
    return part;
  });
  record([x], parts, [], (gs) => [
    () =>
      concat(
        gs.map((g, i) => g ?? fill(x.backend, parts[i]!.shape, 0, x.dtype)),
        axis,
      ),
  ]);
  return parts;
}

/** Repeats axes of size 1 (and adds leading axes) up to `shape`, without copying. */
export function expand(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  const lead = shape.length - x.shape.length;
  const fits = lead >= 0 && x.shape.every((n, i) => n === shape[lead + i] || n === 1);
  if (!fits) throw new ShapeError(`expand: ${show(x.shape)} does not expand to ${show(shape)}`);
  touch(x);
  const y = x.view(
    shape,
    shape.map((n, i) => (i < lead || (x.shape[i - lead] === 1 && n !== 1) ? 0 : x.strides[i - lead]!)),
  );
  record([x], [y], [], ([g]) => [() => sumTo(g!, x.shape)]);
  return y;
}

/** Inserts an axis of size 1. */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  const at = axis < 0 ? axis + x.shape.length + 1 : axis;
  return reshape(x, [...x.shape.slice(0, at), 1, ...x.shape.slice(at)]);
}

/** Reverses an axis. A view. */
export function flip(x: Tensor, axisOrNegative: number): Tensor {
  const axis = resolveAxis("flip", axisOrNegative, x.shape.length);
  touch(x);
  const last = Math.max(0, x.shape[axis]! - 1);
  const y = x.view(
    x.shape,
    x.strides.map((s, i) => (i === axis ? -s : s)),
    x.offset + last * x.strides[axis]!,
  );
  record([x], [y], [], ([g]) => [() => flip(g!, axis)]);
  return y;
}

/** A constant to every open tape, looking at the same memory. */
export function detach(x: Tensor): Tensor {
  touch(x);
  return x.view(x.shape, x.strides);
}

/** A dense copy with memory of its own. */
export function copy(x: Tensor): Tensor {
  touch(x);
  const y = denseCopy(x);
  record([x], [y], [], ([g]) => [() => g]);
  return y;
}
