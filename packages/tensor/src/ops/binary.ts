import { type BinaryOp, type CompareOp, DTypeError, type Shape } from "@mamba-ts/backend";
import { fill } from "../create.js";
import { record } from "../recorder.js";
import { commonDType, run } from "../run.js";
import { scoped } from "../scope.js";
import { broadcastShapes, sameShape } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { sum } from "./reduce.js";
import { exp, log, neg } from "./unary.js";
import { reshape } from "./view.js";
import { where } from "./where.js";

/** A tensor, or a number that takes the other operand's dtype. */
export type TensorOrNumber = Tensor | number;

function asTensor(x: TensorOrNumber, like: TensorOrNumber): Tensor {
  if (typeof x !== "number") return x;
  if (typeof like === "number") throw new DTypeError("binary: two numbers; at least one operand must be a tensor");
  return fill(like.backend, [], x, like.dtype);
}

type Thunk = () => Tensor;
type Rule = (g: Tensor, a: Tensor, b: Tensor, y: Tensor) => readonly [Thunk, Thunk];

function binary(op: BinaryOp, first: TensorOrNumber, second: TensorOrNumber, rule: Rule): Tensor {
  const a = asTensor(first, second);
  const b = asTensor(second, first);
  const dtype = commonDType(op, [a, b]);
  const shape = broadcastShapes(op, a.shape, b.shape);
  const y = run(op, [a, b], shape, dtype, (backend, [x, z]) => backend.binary(op, x!, z!));
  const saved = op === "add" || op === "sub" ? [] : [a, b, y];
  record([a, b], [y], saved, ([g]) => {
    const [ga, gb] = rule(g!, a, b, y);
    return [() => sumTo(ga(), a.shape), () => sumTo(gb(), b.shape)];
  });
  disposeMade([first, a], [second, b]);
  return y;
}

/** A number became a tensor for the operation alone; a tape that needs it holds it. */
export function disposeMade(...pairs: readonly (readonly [TensorOrNumber, Tensor])[]): void {
  for (const [given, tensor] of pairs) if (given !== tensor) tensor.dispose();
}

/** a + b, broadcast as in NumPy. */
export const add = (a: TensorOrNumber, b: TensorOrNumber): Tensor => binary("add", a, b, (g) => [() => g, () => g]);
/** a - b */
export const sub = (a: TensorOrNumber, b: TensorOrNumber): Tensor =>
  binary("sub", a, b, (g) => [() => g, () => neg(g)]);
/** a * b */
export const mul = (a: TensorOrNumber, b: TensorOrNumber): Tensor =>
  binary("mul", a, b, (g, x, z) => [() => mul(g, z), () => mul(g, x)]);
/** a / b */
export const div = (a: TensorOrNumber, b: TensorOrNumber): Tensor =>
  binary("div", a, b, (g, _, z, y) => [() => div(g, z), () => neg(mul(g, div(y, z)))]);
/** a^b for a > 0 (the gradient with respect to b needs it). */
export const pow = (a: TensorOrNumber, b: TensorOrNumber): Tensor =>
  binary("pow", a, b, (g, x, z, y) => [() => mul(g, mul(z, pow(x, sub(z, 1)))), () => mul(g, mul(y, log(x)))]);
/** The larger of the two; where they are equal the gradient goes to the first. */
export const maximum = (a: TensorOrNumber, b: TensorOrNumber): Tensor =>
  binary("max", a, b, (g, x, z) => [() => where(compare("ge", x, z), g, 0), () => where(compare("lt", x, z), g, 0)]);
/** The smaller of the two; where they are equal the gradient goes to the first. */
export const minimum = (a: TensorOrNumber, b: TensorOrNumber): Tensor =>
  binary("min", a, b, (g, x, z) => [() => where(compare("le", x, z), g, 0), () => where(compare("gt", x, z), g, 0)]);
/** log(exp(a) + exp(b)) without overflow. */
export const logAddExp: (a: Tensor, b: Tensor) => Tensor = /* @__PURE__ */ scoped((a, b) => {
  const top = maximum(a, b);
  return add(top, log(add(exp(sub(a, top)), exp(sub(b, top)))));
});

/** Elementwise comparison, int32 1 or 0; no gradient. */
export function compare(op: CompareOp, first: TensorOrNumber, second: TensorOrNumber): Tensor {
  const a = asTensor(first, second);
  const b = asTensor(second, first);
  commonDType(op, [a, b]);
  const y = run(op, [a, b], broadcastShapes(op, a.shape, b.shape), "int32", (backend, [x, z]) =>
    backend.compare(op, x!, z!),
  );
  disposeMade([first, a], [second, b]);
  return y;
}

/** Sums a gradient over the axes that broadcasting added or stretched. */
export function sumTo(g: Tensor, shape: Shape): Tensor {
  if (sameShape(g.shape, shape)) return g;
  let out = g;
  const lead = g.shape.length - shape.length;
  for (let i = 0; i < lead; i++) out = sum(out, 0);
  shape.forEach((n, axis) => {
    if (n === 1 && out.shape[axis] !== 1) out = sum(out, axis, { keepDims: true });
  });
  return reshape(out, shape);
}
