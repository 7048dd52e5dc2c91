import { DTypeError, type FloatDType, type SelectiveScanDescriptor, ShapeError } from "@mamba-ts/backend";
import { dispatch, kernelFor } from "../dispatch.js";
import { clearPadding } from "../marks.js";
import { commonBackend, expectFloat, expectInt } from "../run.js";
import { scoped } from "../scope.js";
import { expectRank, expectShape, show } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { add } from "./binary.js";
import { gatedOutput } from "./gated-output.js";
import { selectiveScanDefinition } from "./selective-scan-composition.js";
import { accumulationDType, cast, softplus } from "./unary.js";

export interface SelectiveScanArguments {
  /** [batch, length, dInner] */
  readonly x: Tensor;
  /** [batch, length, dInner]; the step size, before bias and softplus where those are given. */
  readonly delta: Tensor;
  /** [dInner, dState], negative real. */
  readonly A: Tensor;
  /** [batch, length, groups * dState] */
  readonly B: Tensor;
  /** [batch, length, groups * dState] */
  readonly C: Tensor;
  /** [dInner]: skip connection. */
  readonly D?: Tensor | undefined;
  /** [batch, length, dInner]: the output is multiplied by silu(z). */
  readonly z?: Tensor | undefined;
  /** [dInner], added to delta. */
  readonly deltaBias?: Tensor | undefined;
  /** Whether delta (with its bias) goes through softplus. */
  readonly softplus?: boolean;
  /** [batch, dInner, dState]; zeros by default. */
  readonly initialState?: Tensor | undefined;
  /** int32 [batch, length]: 1 starts a new sequence, -1 is padding; see `segmentMarks`. */
  readonly marks?: Tensor | undefined;
}

export interface SelectiveScanResult {
  /** [batch, length, dInner]; 0 at padding. */
  readonly y: Tensor;
  /** [batch, dInner, dState], float32 (float64 for float64 inputs); gradients flow through it. */
  readonly finalState: Tensor;
}

/**
 * The selective scan of Mamba (arXiv:2312.00752, Alg. 2 and eq. 2): with d = delta,
 * h[t] = exp(d[t] A) h[t-1] + d[t] B[t] x[t];  y[t] = (C[t] . h[t] + D x[t]) silu(z[t]).
 * Throws ShapeError or DTypeError naming the argument. A, D, deltaBias and the states are float32 at least.
 */
export const selectiveScan = /* @__PURE__ */ scoped(function selectiveScan(
  args: SelectiveScanArguments,
): SelectiveScanResult {
  const descriptor = describe(args);
  const { x, delta, A, B, C, D, z, deltaBias, initialState, marks } = args;
  const run = (given: Omit<SelectiveScanArguments, "softplus">, d: SelectiveScanDescriptor): SelectiveScanResult =>
    dispatch(selectiveScanDefinition, given, d) as unknown as SelectiveScanResult;

  // A kernel that takes fewer options is still worth more than the composition: peel off what can be done around it.
  let given: Omit<SelectiveScanArguments, "softplus"> = { x, delta, A, B, C, D, z, deltaBias, initialState, marks };
  const noZ = { ...descriptor, hasZ: false };
  const noD = { ...noZ, hasD: false };
  const bare = { ...noD, hasDeltaBias: false, softplus: false };
  const d = [descriptor, noZ, noD, bare].find((one) => kernelFor(x.backend, "selectiveScan", one) !== undefined);
  if (d === undefined || d === descriptor) return run(given, descriptor);
  given = { ...given, z: undefined, D: d.hasD ? D : undefined };
  if (d === bare && (deltaBias !== undefined || args.softplus === true)) {
    const read = clearPadding(delta, marks);
    const biased = deltaBias === undefined ? read : add(read, cast(deltaBias, delta.dtype));
    given = { ...given, delta: args.softplus === true ? softplus(biased) : biased, deltaBias: undefined };
  }
  const { y, finalState } = run(given, d);
  const outer = { D: given.D === undefined ? D : undefined, z: given.z === undefined ? z : undefined };
  if (outer.D === undefined && outer.z === undefined) return { y, finalState };
  return {
    y: gatedOutput({
      y,
      x: outer.D === undefined ? undefined : clearPadding(x, marks),
      D: outer.D,
      z: outer.z === undefined ? undefined : clearPadding(outer.z, marks),
    }),
    finalState,
  };
});

function describe(args: SelectiveScanArguments): SelectiveScanDescriptor {
  const op = "selectiveScan";
  const { x, delta, A, B, C, D, z, deltaBias, initialState, marks } = args;
  commonBackend(op, [x, delta, A, B, C, ...[D, z, deltaBias, initialState, marks].filter((t) => t !== undefined)]);
  expectFloat(op, x, "x");
  const dtype = x.dtype as FloatDType;
  const [batch, length, dInner] = expectRank(op, "x", x.shape, ["batch", "length", "dInner"]) as [
    number,
    number,
    number,
  ];
  const dState = expectRank(op, "A", A.shape, ["dInner", "dState"])[1]!;
  expectShape(op, "A", A.shape, [dInner, dState]);
  expectShape(op, "delta", delta.shape, x.shape);
  const width = expectRank(op, "B", B.shape, ["batch", "length", "groups * dState"])[2]!;
  const groups = dState === 0 ? 1 : width / dState;
  if (!Number.isInteger(groups) || groups < 1 || dInner % groups !== 0)
    throw new ShapeError(
      `${op}: B is ${show(B.shape)}; its width is not groups * dState for dState ${dState} and groups dividing dInner ${dInner}`,
    );
  expectShape(op, "B", B.shape, [batch, length, width]);
  expectShape(op, "C", C.shape, [batch, length, width]);
  if (D !== undefined) expectShape(op, "D", D.shape, [dInner]);
  if (z !== undefined) expectShape(op, "z", z.shape, x.shape);
  if (deltaBias !== undefined) expectShape(op, "deltaBias", deltaBias.shape, [dInner]);
  if (initialState !== undefined) expectShape(op, "initialState", initialState.shape, [batch, dInner, dState]);
  if (marks !== undefined) {
    expectInt(op, marks, "marks");
    expectShape(op, "marks", marks.shape, [batch, length]);
  }
  for (const [name, t] of Object.entries({ delta, B, C, z }))
    if (t !== undefined && t.dtype !== dtype) throw dtypeError(op, name, t, dtype);
  const kept = accumulationDType(dtype);
  for (const [name, t] of Object.entries({ A, D, deltaBias, initialState }))
    if (t !== undefined && t.dtype !== kept) throw dtypeError(op, name, t, kept);
  return {
    batch,
    length,
    dInner,
    dState,
    groups,
    dtype,
    softplus: args.softplus ?? false,
    hasD: D !== undefined,
    hasZ: z !== undefined,
    hasDeltaBias: deltaBias !== undefined,
    hasInitialState: initialState !== undefined,
    hasMarks: marks !== undefined,
  };
}

function dtypeError(op: string, name: string, t: Tensor, want: string): DTypeError {
  return new DTypeError(`${op}: ${name} is ${t.dtype}, not ${want}`, { hint: `cast(${name}, "${want}") converts` });
}
