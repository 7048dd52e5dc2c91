import { type Shape, ShapeError } from "@mamba-ts/backend";
import { range } from "../create.js";
import { record } from "../recorder.js";
import { expectInt, run } from "../run.js";
import { scoped } from "../scope.js";
import { expectShape, resolveAxis, show } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { compare } from "./binary.js";
import { sum } from "./reduce.js";
import { cast } from "./unary.js";
import { unsqueeze } from "./view.js";
import { where } from "./where.js";

/**
 * `x` taken at `indices` (int32, any shape) along an axis: [outer…, n, inner…] -> [outer…, indices…, inner…]. An index outside
 * [0, n) gives zeros. A block-quantised x is decoded to float32.
 */
export function gather(x: Tensor, indices: Tensor, axisOrNegative = 0): Tensor {
  expectInt("gather", indices, "indices");
  const axis = resolveAxis("gather", axisOrNegative, x.shape.length);
  const shape = [...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)];
  const dtype = x.dtype === "q8_0" ? "float32" : x.dtype;
  const y = run("gather", [x, indices], shape, dtype, (backend, [operand, at]) => backend.gather(operand!, at!, axis));
  record([x], [y], [indices], ([g]) => [() => cast(scatterAdd(x.shape, indices, g!, axis), x.dtype)]);
  return y;
}

/**
 * Zeros of `shape` with `updates` [outer…, indices…, inner…] added at `indices` along an axis. An index outside the axis is dropped.
 */
export function scatterAdd(shape: Shape, indices: Tensor, updates: Tensor, axisOrNegative = 0): Tensor {
  expectInt("scatterAdd", indices, "indices");
  const axis = resolveAxis("scatterAdd", axisOrNegative, shape.length);
  expectShape("scatterAdd", "updates", updates.shape, [
    ...shape.slice(0, axis),
    ...indices.shape,
    ...shape.slice(axis + 1),
  ]);
  const y = run("scatterAdd", [indices, updates], shape, updates.dtype, (backend, [at, operand]) =>
    backend.scatterAdd(shape, at!, operand!, axis),
  );
  record([updates], [y], [indices], ([g]) => [() => gather(g!, indices, axis)]);
  return y;
}

/** Element `indices[r]` of each row r: x [rows, n], indices int32 [rows] -> [rows]. */
export const pick = /* @__PURE__ */ scoped(function pick(x: Tensor, indices: Tensor): Tensor {
  if (x.shape.length !== 2 || indices.shape.length !== 1 || indices.shape[0] !== x.shape[0])
    throw new ShapeError(`pick: x ${show(x.shape)} and indices ${show(indices.shape)} are not [rows, n] and [rows]`);
  const hit = compare("eq", range(x.backend, 0, x.shape[1]!), unsqueeze(indices, 1)); // [rows, n]
  return sum(where(hit, x, 0), 1);
});
