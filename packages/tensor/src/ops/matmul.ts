import { type FloatDType, ShapeError } from "@mamba-ts/backend";
import { record } from "../recorder.js";
import { commonDType, expectFloat, run } from "../run.js";
import { broadcastShapes, show } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { sumTo } from "./binary.js";
import { cast } from "./unary.js";

export interface MatmulArguments {
  /** a is stored [..., k, m]. */
  readonly transA?: boolean;
  /** b is stored [..., n, k]. */
  readonly transB?: boolean;
  /** dtype of the result; the inputs' by default. Sums are kept in float32 whatever it is. */
  readonly out?: FloatDType;
}

/**
 * Matrix product over the last two axes; leading axes broadcast.
 * @param a - [..., m, k]  @param b - [..., k, n]  @returns [..., m, n]
 */
export function matmul(a: Tensor, b: Tensor, { transA = false, transB = false, out }: MatmulArguments = {}): Tensor {
  expectFloat("matmul", a, "a");
  const dtype = commonDType("matmul", [a, b]) as FloatDType;
  if (a.shape.length < 2 || b.shape.length < 2)
    throw new ShapeError(`matmul: operands need at least two axes: a ${show(a.shape)}, b ${show(b.shape)}`);
  const [m, k] = lastTwo(a, transA);
  const [k2, n] = lastTwo(b, transB);
  if (k !== k2)
    throw new ShapeError(
      `matmul: inner dimensions differ: a ${show(a.shape)}${transA ? " transposed" : ""}, b ${show(b.shape)}${transB ? " transposed" : ""}`,
      {
        hint: transB ? undefined : "weights are stored [out, in]; pass { transB: true }",
      },
    );
  const lead = broadcastShapes("matmul", a.shape.slice(0, -2), b.shape.slice(0, -2));
  const type = out ?? dtype;
  const y = run("matmul", [a, b], [...lead, m, n], type, (backend, [x, z]) =>
    backend.matmul(x!, z!, { transA, transB, out: type }),
  );
  record([a, b], [y], [a, b], ([gy]) => {
    const g = cast(gy!, dtype);
    return [
      () => sumTo(transA ? matmul(b, g, { transA: transB, transB: true }) : matmul(g, b, { transB: !transB }), a.shape),
      () => sumTo(transB ? matmul(g, a, { transA: true, transB: transA }) : matmul(a, g, { transA: !transA }), b.shape),
    ];
  });
  return y;
}

function lastTwo(x: Tensor, transposed: boolean): [number, number] {
  const rows = x.shape.at(-2)!;
  const columns = x.shape.at(-1)!;
  return transposed ? [columns, rows] : [rows, columns];
}
