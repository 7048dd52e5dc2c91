import type { FloatDType, LayerNormDescriptor, RmsNormDescriptor } from "@mamba-ts/backend";
import { dispatch, type FusedDefinition, type TensorArgs } from "../dispatch.js";
import { commonBackend, expectFloat } from "../run.js";
import { scoped } from "../scope.js";
import { expectShape, sizeOf } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { add, mul, sub } from "./binary.js";
import { mean } from "./reduce.js";
import { accumulationDType, cast, rsqrt } from "./unary.js";
import { reshape } from "./view.js";

type Name = "x" | "weight" | "bias" | "residual";

/** x + residual in the residual's precision, and in the precision statistics are taken in. */
function residualSum(
  { x, residual }: TensorArgs<Name>,
  { dtype, residualDtype }: RmsNormDescriptor,
): { sum: Tensor; wide: Tensor } {
  const sum = residual === undefined ? x! : add(cast(x!, residualDtype), residual);
  return { sum, wide: cast(sum, accumulationDType(residual === undefined ? dtype : residualDtype)) };
}

const outputs = ({ rows, width, dtype, residualDtype, hasResidual }: RmsNormDescriptor) => ({
  y: { shape: [rows, width], dtype },
  ...(hasResidual ? { sum: { shape: [rows, width], dtype: residualDtype } } : {}),
});

const rmsDefinition: FusedDefinition<RmsNormDescriptor, Exclude<Name, "bias">, "y" | "sum"> = {
  name: "rmsNorm",
  outputs,
  compose(args, descriptor) {
    const { sum, wide } = residualSum(args, descriptor);
    let y = mul(wide, rsqrt(add(mean(mul(wide, wide), 1, { keepDims: true }), descriptor.eps)));
    if (args.weight !== undefined) y = mul(y, cast(args.weight, wide.dtype));
    return { y: cast(y, descriptor.dtype), ...(descriptor.hasResidual ? { sum } : {}) };
  },
};

const layerDefinition: FusedDefinition<LayerNormDescriptor, Name, "y" | "sum"> = {
  name: "layerNorm",
  outputs,
  compose(args, descriptor) {
    const { sum, wide } = residualSum(args, descriptor);
    const centred = sub(wide, mean(wide, 1, { keepDims: true }));
    let y = mul(centred, rsqrt(add(mean(mul(centred, centred), 1, { keepDims: true }), descriptor.eps)));
    if (args.weight !== undefined) y = mul(y, cast(args.weight, wide.dtype));
    if (args.bias !== undefined) y = add(y, cast(args.bias, wide.dtype));
    return { y: cast(y, descriptor.dtype), ...(descriptor.hasResidual ? { sum } : {}) };
  },
};

export interface NormArguments {
  /** [..., width] */
  readonly x: Tensor;
  /** [width]; 1 if absent. */
  readonly weight?: Tensor | undefined;
  /** [..., width]: added to x first; the sum comes back too. */
  readonly residual?: Tensor | undefined;
  /** Added to the mean square or variance inside the root. */
  readonly eps: number;
}

export interface NormResult {
  /** The normalised tensor, in x's dtype. */
  readonly y: Tensor;
  /** x + residual, in the residual's dtype; x itself where there is no residual. */
  readonly sum: Tensor;
}

/** Root mean square norm over the last axis (arXiv:1910.07467), y = s / sqrt(mean(s^2) + eps) * weight with s = x + residual. */
export const rmsNorm = /* @__PURE__ */ scoped(function rmsNorm({
  x,
  weight,
  residual,
  eps,
}: NormArguments): NormResult {
  const { descriptor, flat } = describe("rmsNorm", { x, weight, residual }, eps);
  return unflatten(x, dispatch(rmsDefinition, { x: flat(x), weight, residual: flat(residual) }, descriptor));
});

/** Layer norm over the last axis (arXiv:1607.06450), with biased variance. */
export const layerNorm = /* @__PURE__ */ scoped(function layerNorm({
  x,
  weight,
  bias,
  residual,
  eps,
}: NormArguments & { readonly bias?: Tensor | undefined }): NormResult {
  const { descriptor, flat } = describe("layerNorm", { x, weight, bias, residual }, eps);
  const full = { ...descriptor, hasBias: bias !== undefined };
  return unflatten(x, dispatch(layerDefinition, { x: flat(x), weight, bias, residual: flat(residual) }, full));
});

function unflatten(x: Tensor, { y, sum }: { readonly y?: Tensor; readonly sum?: Tensor }): NormResult {
  return { y: reshape(y!, x.shape), sum: sum === undefined ? x : reshape(sum, x.shape) };
}

function describe(op: string, args: TensorArgs<Name>, eps: number) {
  const { x, weight, bias, residual } = args;
  commonBackend(op, [x!, ...[weight, bias, residual].filter((t) => t !== undefined)]);
  expectFloat(op, x!, "x");
  const width = x!.shape.at(-1) ?? 1;
  const rows = sizeOf(x!.shape.slice(0, -1));
  if (weight !== undefined) expectShape(op, "weight", weight.shape, [width]);
  if (bias !== undefined) expectShape(op, "bias", bias.shape, [width]);
  if (residual !== undefined) {
    expectFloat(op, residual, "residual");
    expectShape(op, "residual", residual.shape, x!.shape);
  }
  const dtype = x!.dtype as FloatDType;
  const descriptor: RmsNormDescriptor = {
    rows,
    width,
    dtype,
    residualDtype: (residual?.dtype as FloatDType | undefined) ?? dtype,
    eps,
    hasWeight: weight !== undefined,
    hasResidual: residual !== undefined,
  };
  function flat(t: Tensor): Tensor;
  function flat(t: Tensor | undefined): Tensor | undefined;
  function flat(t: Tensor | undefined): Tensor | undefined {
    return t === undefined ? undefined : reshape(t, [rows, width]);
  }
  return { descriptor, flat };
}
