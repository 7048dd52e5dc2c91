import { ShapeError } from "@mamba-ts/backend";
import { expectSome, record } from "../recorder.js";
import { commonDType, run } from "../run.js";
import { scoped } from "../scope.js";
import { resolveAxis, show } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { reshape as reshapeTo, slice } from "./view.js";

/** Joins tensors along an axis; all other axes must agree. */
export function concat(xs: readonly Tensor[], axisOrNegative: number): Tensor {
  expectSome("concat", xs);
  const first = xs[0]!;
  if (xs.length === 1) return first;
  const axis = resolveAxis("concat", axisOrNegative, first.shape.length);
  for (const x of xs)
    if (x.shape.length !== first.shape.length || x.shape.some((n, i) => i !== axis && n !== first.shape[i]))
      throw new ShapeError(`concat: ${show(first.shape)} and ${show(x.shape)} differ outside axis ${axis}`);
  const total = xs.reduce((n, x) => n + x.shape[axis]!, 0);
  const y = run(
    "concat",
    xs,
    first.shape.map((n, i) => (i === axis ? total : n)),
    commonDType("concat", xs),
    (backend, operands) => backend.concat(operands, axis),
  );
  record(xs, [y], [], ([g]) => {
    let end = 0;
    return xs.map((x) => {
      const start = end;
      end += x.shape[axis]!;
      const stop = end;
      return () => slice(g!, axis, start, stop);
    });
  });
  return y;
}

/** Joins along a new axis. */
export const stack = /* @__PURE__ */ scoped(function stack(xs: readonly Tensor[], axis: number): Tensor {
  expectSome("stack", xs);
  const rank = xs[0]!.shape.length;
  const at = axis < 0 ? axis + rank + 1 : axis;
  const views = xs.map((x) => x.shape.flatMap((n, i) => (i === at ? [1, n] : [n])).concat(at === rank ? [1] : []));
  return concat(
    xs.map((x, i) => reshapeTo(x, views[i]!)),
    at,
  );
});

/** Zeros before and after along one axis; negative amounts trim. */
export function pad(x: Tensor, axisOrNegative: number, before: number, after: number): Tensor {
  const axis = resolveAxis("pad", axisOrNegative, x.shape.length);
  if (before === 0 && after === 0) return x;
  const n = x.shape[axis]! + before + after;
  if (n < 0) throw new ShapeError(`pad: ${before} and ${after} leave nothing of axis ${axis} of ${show(x.shape)}`);
  const y = run(
    "pad",
    [x],
    x.shape.map((m, i) => (i === axis ? n : m)),
    x.dtype,
    (backend, [operand]) => backend.pad(operand!, axis, before, after),
  );
  record([x], [y], [], ([g]) => [() => pad(g!, axis, -before, -after)]);
  return y;
}
