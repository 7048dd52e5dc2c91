import type { ArgReduceOp } from "@mamba-ts/backend";
import { record, withoutRecording } from "../recorder.js";
import { run } from "../run.js";
import { scoped } from "../scope.js";
import { resolveAxis, sizeOf } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { compare, div, mul, sub } from "./binary.js";
import { cast, exp, log } from "./unary.js";
import { expand, reshape, unsqueeze } from "./view.js";
import { where } from "./where.js";

export interface ReduceOptions {
  /** Keep the reduced axis with size 1. */
  readonly keepDims?: boolean;
}

function flatten(x: Tensor): Tensor {
  return reshape(x, [sizeOf(x.shape)]);
}

/** Sum over one axis, or over everything (a scalar). */
export const sum = /* @__PURE__ */ scoped(function sum(
  x: Tensor,
  axis?: number,
  { keepDims = false }: ReduceOptions = {},
): Tensor {
  if (axis === undefined) return sum(flatten(x), 0);
  const a = resolveAxis("sum", axis, x.shape.length);
  const y = run(
    "sum",
    [x],
    x.shape.filter((_, i) => i !== a),
    x.dtype,
    (backend, [operand]) => backend.reduce("sum", operand!, a),
  );
  record([x], [y], [], ([g]) => [() => expand(unsqueeze(g!, a), x.shape)]);
  return keepDims ? unsqueeze(y, a) : y;
});

/** Mean over one axis, or over everything. */
export const mean = /* @__PURE__ */ scoped(function mean(x: Tensor, axis?: number, options?: ReduceOptions): Tensor {
  const n = axis === undefined ? x.size : x.shape[resolveAxis("mean", axis, x.shape.length)]!;
  return mul(sum(x, axis, options), 1 / n);
});

/** Maximum over one axis, or over everything; equal maxima share the gradient. */
export const max = /* @__PURE__ */ scoped(function max(
  x: Tensor,
  axis?: number,
  { keepDims = false }: ReduceOptions = {},
): Tensor {
  if (axis === undefined) return max(flatten(x), 0);
  const a = resolveAxis("max", axis, x.shape.length);
  const y = run(
    "max",
    [x],
    x.shape.filter((_, i) => i !== a),
    x.dtype,
    (backend, [operand]) => backend.reduce("max", operand!, a),
  );
  record([x], [y], [x, y], ([g]) => [
    () => {
      const hit = cast(compare("eq", x, unsqueeze(y, a)), x.dtype);
      return mul(hit, div(unsqueeze(g!, a), sum(hit, a, { keepDims: true })));
    },
  ]);
  return keepDims ? unsqueeze(y, a) : y;
});

function argReduce(op: ArgReduceOp, x: Tensor, axis: number): Tensor {
  const a = resolveAxis(`arg${op}`, axis, x.shape.length);
  return run(
    `arg${op}`,
    [x],
    x.shape.filter((_, i) => i !== a),
    "int32",
    (backend, [operand]) => backend.argReduce(op, operand!, a),
  );
}

/** Index of the largest element along an axis, int32; the first among equals. */
export const argMax = (x: Tensor, axis: number): Tensor => argReduce("max", x, axis);
/** Index of the smallest element along an axis, int32; the first among equals. */
export const argMin = (x: Tensor, axis: number): Tensor => argReduce("min", x, axis);

/** log(sum(exp(x))) over an axis, without overflow. A row of -Infinity gives -Infinity. */
export const logSumExp = /* @__PURE__ */ scoped(function logSumExp(
  x: Tensor,
  axis: number,
  options: ReduceOptions = {},
): Tensor {
  const top = shift(x, axis);
  const y = log(sum(exp(sub(x, top)), axis, { keepDims: true }));
  const out = sub(y, mul(top, -1));
  return options.keepDims === true
    ? out
    : reshape(
        out,
        x.shape.filter((_, i) => i !== resolveAxis("logSumExp", axis, x.shape.length)),
      );
});

/** exp(x) / sum(exp(x)) over an axis. */
export const softmax = /* @__PURE__ */ scoped(function softmax(x: Tensor, axis: number): Tensor {
  const e = exp(sub(x, shift(x, axis)));
  return div(e, sum(e, axis, { keepDims: true }));
});

/** The maximum, as a constant, and 0 where it is not finite: any finite shift gives the same result. */
function shift(x: Tensor, axis: number): Tensor {
  const top = withoutRecording(() => max(x, axis, { keepDims: true }));
  return withoutRecording(() => where(compare("gt", top, Number.NEGATIVE_INFINITY), top, 0));
}
