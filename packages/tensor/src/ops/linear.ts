import { DTypeError, type FloatDType, type LinearDescriptor } from "@mamba-ts/backend";
import { dispatch, type FusedDefinition } from "../dispatch.js";
import { commonBackend, expectFloat } from "../run.js";
import { scoped } from "../scope.js";
import { expectRank, expectShape, show, sizeOf } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { add } from "./binary.js";
import { matmul } from "./matmul.js";
import { cast } from "./unary.js";
import { reshape } from "./view.js";

const definition: FusedDefinition<LinearDescriptor, "x" | "weight" | "bias", "y"> = {
  name: "linear",
  outputs: ({ rows, outFeatures, out }) => ({ y: { shape: [rows, outFeatures], dtype: out } }),
  compose({ x, weight, bias }, { dtype, weightDtype, out }) {
    // Two half formats meet in float32; a weight in the input's own format needs no conversion.
    const type = weightDtype === dtype ? dtype : dtype === "float64" ? "float64" : "float32";
    const y = matmul(cast(x!, type), cast(weight!, type), { transB: true, out });
    return { y: bias === undefined ? y : add(y, cast(bias, out)) };
  },
};

/**
 * y = x weight^T + bias.
 * @param x - [..., inFeatures]
 * @param weight - [outFeatures, inFeatures], of any floating dtype or block format; block formats have no gradient
 * @param options - bias? [outFeatures]; out: dtype of y, x's by default
 * @returns [..., outFeatures]
 */
export const linear = /* @__PURE__ */ scoped(function linear(
  x: Tensor,
  weight: Tensor,
  { bias, out }: { readonly bias?: Tensor | undefined; readonly out?: FloatDType } = {},
): Tensor {
  const op = "linear";
  commonBackend(op, bias === undefined ? [x, weight] : [x, weight, bias]);
  expectFloat(op, x, "x");
  if (weight.dtype === "int32")
    throw new DTypeError(`${op}: weight is int32 ${show(weight.shape)}, not floating point`);
  const [outFeatures, inFeatures] = expectRank(op, "weight", weight.shape, ["outFeatures", "inFeatures"]) as [
    number,
    number,
  ];
  const lead = x.shape.slice(0, -1);
  expectShape(op, "x", x.shape, [...lead, inFeatures], `weight is ${show(weight.shape)}, stored [out, in]`);
  if (bias !== undefined) expectShape(op, "bias", bias.shape, [outFeatures]);
  const rows = sizeOf(lead);
  const descriptor: LinearDescriptor = {
    rows,
    inFeatures,
    outFeatures,
    dtype: x.dtype as FloatDType,
    weightDtype: weight.dtype,
    out: out ?? (x.dtype as FloatDType),
    hasBias: bias !== undefined,
  };
  const { y } = dispatch(definition, { x: reshape(x, [rows, inFeatures]), weight, bias }, descriptor);
  return reshape(y!, [...lead, outFeatures]);
});
