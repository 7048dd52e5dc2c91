import { type ActivationDescriptor, type FloatDType, ShapeError } from "@mamba-ts/backend";
import { dispatch, type FusedDefinition } from "../dispatch.js";
import { commonBackend, expectFloat } from "../run.js";
import { scoped } from "../scope.js";
import { show, sizeOf } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { add, mul } from "./binary.js";
import { erf, sigmoid } from "./unary.js";
import { reshape, slice } from "./view.js";

const definition: FusedDefinition<ActivationDescriptor, "x", "y"> = {
  name: "activation",
  outputs: ({ rows, width, dtype }) => ({ y: { shape: [rows, width], dtype } }),
  compose: ({ x }, { width, kind }) => ({
    y:
      kind === "gelu"
        ? mul(mul(x!, 0.5), add(erf(mul(x!, Math.SQRT1_2)), 1))
        : mul(slice(x!, 1, 0, width), sigmoid(slice(x!, 1, width))),
  }),
};

function activate(op: string, kind: ActivationDescriptor["kind"], x: Tensor, width: number): Tensor {
  commonBackend(op, [x]);
  expectFloat(op, x);
  const lead = x.shape.slice(0, -1);
  const rows = sizeOf(lead);
  const flat = reshape(x, [rows, x.shape.at(-1) ?? 1]);
  const { y } = dispatch(definition, { x: flat }, { rows, width, kind, dtype: x.dtype as FloatDType });
  return reshape(y!, x.shape.length === 0 ? [] : [...lead, width]);
}

/** x times the normal distribution's cumulative function, the exact form (arXiv:1606.08415). Any shape. */
export const gelu: (x: Tensor) => Tensor = /* @__PURE__ */ scoped((x) =>
  activate("gelu", "gelu", x, x.shape.at(-1) ?? 1),
);

/**
 * Gated linear unit (arXiv:1612.08083): a sigmoid(b) of the last axis' halves a and b.
 * @param x - [..., 2 width]  @returns [..., width]
 * @throws ShapeError if the last axis is odd
 */
export const glu: (x: Tensor) => Tensor = /* @__PURE__ */ scoped((x) => {
  const width = (x.shape.at(-1) ?? 1) / 2;
  if (!Number.isInteger(width)) throw new ShapeError(`glu: the last axis of ${show(x.shape)} has no halves`);
  return activate("glu", "glu", x, width);
});
