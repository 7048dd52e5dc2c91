/**
 * Primitives along one axis, and `copy`. All but `copy` see their operand as [outer, n, inner], so that one axis is all there is.
 * The result is allocated after every operand has been looked at, so that a call that throws leaves nothing allocated.
 *
 * Your backend: one thread for each element of the result, except in `reduce`, which wants a tree, and `scatterAdd`, whose sums
 * must come out the same every time: sort the indices, or add in integers; plain float atomics are not enough.
 */
import type { ArgReduceOp, Buf, Operand, ReduceOp, Shape, StridedView } from "@mamba-ts/backend";
import { around, sizeOf } from "./shape.js";
import type { PagedMemory } from "./storage.js";

/** Sums run in doubles; float32 with pairwise sums does as well. */
export function reduce(memory: PagedMemory, op: ReduceOp, x: Operand, axis: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  const a = memory.own(x.buf);
  const y = memory.alloc(outer * inner, x.dtype);
  for (let o = 0; o < outer; o++)
    for (let i = 0; i < inner; i++) {
      // An empty axis leaves these.
      let result = op === "sum" ? 0 : Number.NEGATIVE_INFINITY;
      for (let k = 0; k < n; k++) {
        const value = a.get((o * n + k) * inner + i);
        result = op === "sum" ? result + value : Math.max(result, value);
      }
      y.set(o * inner + i, result);
    }
  return y;
}

export function argReduce(memory: PagedMemory, op: ArgReduceOp, x: Operand, axis: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  const a = memory.own(x.buf);
  const beats = (candidate: number, champion: number): boolean => {
    // The first NaN stays; anything else loses to a NaN.
    if (Number.isNaN(champion)) return false;
    if (Number.isNaN(candidate)) return true;
    // Strictly: among equals the first one stays.
    return op === "max" ? candidate > champion : candidate < champion;
  };
  const y = memory.alloc(outer * inner, "int32");
  for (let o = 0; o < outer; o++)
    for (let i = 0; i < inner; i++) {
      const value = (k: number): number => a.get((o * n + k) * inner + i);
      let best = 0;
      for (let k = 1; k < n; k++) if (beats(value(k), value(best))) best = k;
      y.set(o * inner + i, best);
    }
  return y;
}

/** Indices come from data nobody has checked: one outside the axis selects zeros, and must never be dereferenced. */
export function gather(memory: PagedMemory, x: Operand, indices: Operand, axis: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  const [a, at] = [memory.own(x.buf), memory.own(indices.buf)];
  const y = memory.alloc(outer * at.count * inner, x.dtype);
  for (let o = 0; o < outer; o++)
    for (let k = 0; k < at.count; k++) {
      const index = at.get(k);
      const isInside = index >= 0 && index < n;
      for (let i = 0; i < inner; i++)
        y.set((o * at.count + k) * inner + i, isInside ? a.get((o * n + index) * inner + i) : 0);
    }
  return y;
}

/** Adds in the order of the indices, so that a sum is the same every time. */
export function scatterAdd(memory: PagedMemory, shape: Shape, indices: Operand, updates: Operand, axis: number): Buf {
  const { outer, n, inner } = around(shape, axis);
  const [a, at] = [memory.own(updates.buf), memory.own(indices.buf)];
  const y = memory.alloc(outer * n * inner, updates.dtype);
  for (let i = 0; i < y.count; i++) y.set(i, 0);
  for (let o = 0; o < outer; o++)
    for (let k = 0; k < at.count; k++) {
      const index = at.get(k);
      if (index < 0 || index >= n) continue;
      for (let i = 0; i < inner; i++) {
        const to = (o * n + index) * inner + i;
        y.set(to, y.get(to) + a.get((o * at.count + k) * inner + i));
      }
    }
  return y;
}

/** Element k of the result is element k - before of `x`, or zero; with negative amounts there are fewer of them. */
export function pad(memory: PagedMemory, x: Operand, axis: number, before: number, after: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  const length = before + n + after;
  const a = memory.own(x.buf);
  const y = memory.alloc(outer * length * inner, x.dtype);
  for (let o = 0; o < outer; o++)
    for (let k = 0; k < length; k++) {
      const from = k - before;
      for (let i = 0; i < inner; i++)
        y.set((o * length + k) * inner + i, from >= 0 && from < n ? a.get((o * n + from) * inner + i) : 0);
    }
  return y;
}

export function concat(memory: PagedMemory, xs: readonly Operand[], axis: number): Buf {
  const parts = xs.map((x) => ({ a: memory.own(x.buf), n: x.shape[axis]! }));
  const { outer, inner } = around(xs[0]!.shape, axis);
  const total = parts.reduce((sum, { n }) => sum + n, 0);
  const y = memory.alloc(outer * total * inner, xs[0]!.dtype);
  let start = 0;
  for (const { a, n } of parts) {
    for (let o = 0; o < outer; o++)
      for (let i = 0; i < n * inner; i++) y.set((o * total + start) * inner + i, a.get(o * n * inner + i));
    start += n;
  }
  return y;
}

/** The only primitive that sees strides: 0 where an axis is repeated, negative where it runs backwards. */
export function copy(memory: PagedMemory, { buf, offset, shape, strides, dtype }: StridedView): Buf {
  const a = memory.own(buf);
  const y = memory.alloc(sizeOf(shape), dtype);
  for (let i = 0; i < y.count; i++) {
    let [rest, from] = [i, offset];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += (rest % shape[axis]!) * strides[axis]!;
      rest = Math.floor(rest / shape[axis]!);
    }
    y.set(i, a.get(from));
  }
  return y;
}
