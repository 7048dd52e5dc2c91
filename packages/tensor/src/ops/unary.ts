import type { FloatDType, UnaryOp } from "@mamba-ts/backend";
import { DTypeError } from "@mamba-ts/backend";
import { expectDType } from "../create.js";
import { record } from "../recorder.js";
import { run } from "../run.js";
import { scoped } from "../scope.js";
import type { Tensor } from "../tensor.js";
import { compare, mul, sub } from "./binary.js";
import { where } from "./where.js";

type Rule = (g: Tensor, x: Tensor, y: Tensor) => Tensor;

function unary(op: UnaryOp, x: Tensor, saves: "x" | "y" | "nothing", rule: Rule): Tensor {
  if (x.dtype === "q8_0" || (x.dtype === "int32" && op !== "neg" && op !== "abs" && op !== "sign"))
    throw new DTypeError(`${op}: not defined on ${x.dtype}`, { hint: 'cast(x, "float32") converts' });
  const y = run(op, [x], x.shape, x.dtype, (backend, [operand]) => backend.unary(op, operand!));
  record([x], [y], saves === "x" ? [x] : saves === "y" ? [y] : [], ([g]) => [() => rule(g!, x, y)]);
  return y;
}

/** -x */
export const neg = (x: Tensor): Tensor => unary("neg", x, "nothing", (g) => neg(g));
/** |x|; its gradient at 0 is 0. */
export const abs = (x: Tensor): Tensor => unary("abs", x, "x", (g) => mul(g, sign(x)));
/** -1, 0 or 1; its gradient is 0. */
export const sign = (x: Tensor): Tensor => unary("sign", x, "nothing", (g) => mul(g, 0));
/** The largest integer not above x; its gradient is 0. */
export const floor = (x: Tensor): Tensor => unary("floor", x, "nothing", (g) => mul(g, 0));
/** e to the power of x. */
export const exp = (x: Tensor): Tensor => unary("exp", x, "y", (g, _, y) => mul(g, y));
/** Natural logarithm. */
export const log = (x: Tensor): Tensor => unary("log", x, "x", (g) => mul(g, reciprocal(x)));
/** The square root; NaN below 0. */
export const sqrt = (x: Tensor): Tensor => unary("sqrt", x, "y", (g, _, y) => mul(g, mul(reciprocal(y), 0.5)));
/** 1 / sqrt(x) */
export const rsqrt = (x: Tensor): Tensor => unary("rsqrt", x, "y", (g, _, y) => mul(g, mul(mul(y, mul(y, y)), -0.5)));
/** 1 / x */
export const reciprocal = (x: Tensor): Tensor => unary("reciprocal", x, "y", (g, _, y) => neg(mul(g, mul(y, y))));
/** Sine; x in radians. */
export const sin = (x: Tensor): Tensor => unary("sin", x, "x", (g) => mul(g, cos(x)));
/** Cosine; x in radians. */
export const cos = (x: Tensor): Tensor => unary("cos", x, "x", (g) => neg(mul(g, sin(x))));
/** Hyperbolic tangent. */
export const tanh = (x: Tensor): Tensor => unary("tanh", x, "y", (g, _, y) => mul(g, sub(1, mul(y, y))));
/** 1 / (1 + exp(-x)) */
export const sigmoid = (x: Tensor): Tensor => unary("sigmoid", x, "y", (g, _, y) => mul(g, mul(y, sub(1, y))));
/** log(1 + exp(x)); the identity above 20, as in the reference implementation. */
export const softplus = (x: Tensor): Tensor =>
  unary("softplus", x, "x", (g) => mul(g, where(compare("gt", x, 20), 1, sigmoid(x))));
/** Gauss error function, absolute error below 1e-6. */
export const erf = (x: Tensor): Tensor =>
  unary("erf", x, "x", (g) => mul(g, mul(exp(neg(mul(x, x))), 2 / Math.sqrt(Math.PI))));

/** x sigmoid(x) (arXiv:1702.03118). */
export const silu: (x: Tensor) => Tensor = /* @__PURE__ */ scoped((x) => mul(x, sigmoid(x)));
/** max(x, 0) */
export const relu: (x: Tensor) => Tensor = /* @__PURE__ */ scoped((x) => where(compare("gt", x, 0), x, 0));
/** Converts the dtype; the gradient is converted back. Returns `x` itself where nothing changes. */
export function cast(x: Tensor, to: Tensor["dtype"]): Tensor {
  if (x.dtype === to) return x;
  expectDType(x.backend, to);
  const y = run("cast", [x], x.shape, to, (backend, [operand]) => backend.cast(operand!, to));
  if (to !== "int32" && x.dtype !== "int32") record([x], [y], [], ([g]) => [() => cast(g!, x.dtype)]);
  return y;
}

/** The type sums are kept in: float64 for float64, float32 for everything else. */
export function accumulationDType(dtype: Tensor["dtype"]): FloatDType {
  return dtype === "float64" ? "float64" : "float32";
}
