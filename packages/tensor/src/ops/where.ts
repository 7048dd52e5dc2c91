import { DTypeError } from "@mamba-ts/backend";
import { fill } from "../create.js";
import { record } from "../recorder.js";
import { commonDType, expectInt, run } from "../run.js";
import { broadcastShapes } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { disposeMade, sumTo, type TensorOrNumber } from "./binary.js";

/**
 * `a` where `cond` (int32) is not 0, else `b`, all broadcast. What is not selected does not show, NaN included, and gets a zero gradient.
 */
export function where(cond: Tensor, first: TensorOrNumber, second: TensorOrNumber): Tensor {
  expectInt("where", cond, "cond");
  const like = typeof first === "number" ? second : first;
  if (typeof like === "number") throw new DTypeError("where: two numbers; at least one choice must be a tensor");
  const [a, b] = [first, second].map((x) => (typeof x === "number" ? fill(like.backend, [], x, like.dtype) : x)) as [
    Tensor,
    Tensor,
  ];
  const dtype = commonDType("where", [a, b]);
  const shape = broadcastShapes("where", cond.shape, broadcastShapes("where", a.shape, b.shape));
  const y = run("where", [cond, a, b], shape, dtype, (backend, [c, p, q]) => backend.where(c!, p!, q!));
  record([a, b], [y], [cond], ([g]) => [
    () => sumTo(where(cond, g!, 0), a.shape),
    () => sumTo(where(cond, 0, g!), b.shape),
  ]);
  disposeMade([first, a], [second, b]);
  return y;
}
