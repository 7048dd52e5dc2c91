import { type FloatDType, type GatedOutputDescriptor, InvalidArgumentError } from "@mamba-ts/backend";
import { dispatch, type FusedDefinition } from "../dispatch.js";
import { commonBackend, expectFloat } from "../run.js";
import { scoped } from "../scope.js";
import { expectShape, sizeOf } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { add, mul } from "./binary.js";
import { cast, silu } from "./unary.js";
import { reshape } from "./view.js";

const definition: FusedDefinition<GatedOutputDescriptor, "y" | "x" | "D" | "z", "out"> = {
  name: "gatedOutput",
  outputs: ({ rows, channels, dtype }) => ({ out: { shape: [rows, channels], dtype } }),
  compose: ({ y, x, D, z }) => {
    const skipped = D === undefined ? y! : add(y!, mul(x!, cast(D, y!.dtype)));
    return { out: z === undefined ? skipped : mul(skipped, silu(z)) };
  },
};

/**
 * (y + D x) silu(z): the skip connection and the gate of a Mamba block; either part may be left out.
 * @param args - y, x?, z? [..., channels]; D? [channels], which needs x
 */
export const gatedOutput = /* @__PURE__ */ scoped(function gatedOutput({
  y,
  x,
  D,
  z,
}: {
  y: Tensor;
  x?: Tensor | undefined;
  D?: Tensor | undefined;
  z?: Tensor | undefined;
}): Tensor {
  const op = "gatedOutput";
  commonBackend(op, [y, ...[x, D, z].filter((t) => t !== undefined)]);
  expectFloat(op, y, "y");
  const channels = y.shape.at(-1) ?? 1;
  if (D !== undefined && x === undefined) throw new InvalidArgumentError(`${op}: D needs x`);
  if (x !== undefined) expectShape(op, "x", x.shape, y.shape);
  if (z !== undefined) expectShape(op, "z", z.shape, y.shape);
  if (D !== undefined) expectShape(op, "D", D.shape, [channels]);
  const rows = sizeOf(y.shape.slice(0, -1));
  const flat = (t: Tensor | undefined): Tensor | undefined =>
    t === undefined ? undefined : reshape(t, [rows, channels]);
  const descriptor = { rows, channels, dtype: y.dtype as FloatDType, hasD: D !== undefined, hasZ: z !== undefined };
  const { out } = dispatch(
    definition,
    { y: flat(y), x: D === undefined ? undefined : flat(x), D, z: flat(z) },
    descriptor,
  );
  return reshape(out!, y.shape);
});
