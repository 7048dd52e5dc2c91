import {
  type Buf,
  InvalidArgumentError,
  type MambaStepDescriptor,
  type MambaStepOptional,
  type MambaStepRequired,
} from "@mamba-ts/backend";
import { kernelFor, reportDispatch, type TensorArgs, withNamedOperands, wrap } from "../dispatch.js";
import { isRecording } from "../recorder.js";
import { commonBackend } from "../run.js";
import { expectShape } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { accumulationDType } from "./unary.js";

export type MambaStepArguments = { readonly [K in MambaStepRequired]: Tensor } & TensorArgs<MambaStepOptional>;
export interface MambaStepResult {
  /** [batch, length, dModel]; the block's output is residual + update, left unadded for the next block's norm to add. */
  readonly residual: Tensor;
  readonly update: Tensor | undefined;
  /** [batch, dConv - 1, dInner] */
  readonly convState: Tensor;
  /** [batch, dInner, dState] */
  readonly ssmState: Tensor;
}

/**
 * One residual Mamba block. Where the backend has a kernel for the whole block at this length and no gradient is wanted, that runs;
 * otherwise `compose`, which is the block's own forward: there is no second definition of a block.
 * With `descriptor.inPlace` a kernel advances the given states where they lie, and returns them.
 */
export function mambaStep(
  args: MambaStepArguments,
  descriptor: MambaStepDescriptor,
  compose: () => MambaStepResult,
): MambaStepResult {
  const names = (Object.keys(args) as (keyof typeof args)[]).filter((name) => args[name] !== undefined);
  const inputs = names.map((name) => args[name] as Tensor);
  const backend = commonBackend("mambaStep", inputs);
  const kernel = isRecording(inputs) ? undefined : kernelFor(backend, "mambaStep", descriptor);
  // A block over a whole sequence is not a step that lacks a kernel.
  if (kernel !== undefined || descriptor.length === 1)
    reportDispatch("mambaStep", "forward", kernel === undefined ? "composed" : "fused");
  if (kernel === undefined) return compose();
  check(args, descriptor);
  const { batch, length, dModel, dInner, dState, dConv, dtype, inPlace } = descriptor;
  const out = { shape: [batch, length, dModel], dtype };
  if (inPlace && !(args.convState.isDense && args.ssmState.isDense))
    throw new InvalidArgumentError("mambaStep: states that advance in place must be dense");
  const { outputs } = withNamedOperands(names, inputs, kernel.strided, (operands) =>
    kernel.op.forward(operands as never, descriptor, { save: false }),
  );
  const moved = {
    convState: { shape: [batch, dConv - 1, dInner], dtype: args.convState.dtype },
    ssmState: { shape: [batch, dInner, dState], dtype: accumulationDType(dtype) },
  };
  const made = wrap<"out" | keyof typeof moved>(backend, outputs as { readonly out?: Buf }, {
    out,
    ...(inPlace ? {} : moved),
  });
  const { convState, ssmState } = inPlace ? args : made;
  return { residual: made.out!, update: undefined, convState: convState!, ssmState: ssmState! };
}

function check(
  args: MambaStepArguments,
  { batch, length, dModel, dInner, dState, dConv, dtRank }: MambaStepDescriptor,
): void {
  const shapes: { readonly [K in MambaStepRequired | MambaStepOptional]: readonly number[] } = {
    x: [batch, length, dModel],
    update: [batch, length, dModel],
    normWeight: [dModel],
    normBias: [dModel],
    inProj: [2 * dInner, dModel],
    inBias: [2 * dInner],
    convWeight: [dInner, dConv],
    convBias: [dInner],
    xProj: [dtRank + 2 * dState, dInner],
    dtProj: [dInner, dtRank],
    dtBias: [dInner],
    dtNorm: [dtRank],
    bNorm: [dState],
    cNorm: [dState],
    nextNormWeight: [dModel],
    A_log: [dInner, dState],
    D: [dInner],
    outProj: [dModel, dInner],
    outBias: [dModel],
    convState: [batch, dConv - 1, dInner],
    ssmState: [batch, dInner, dState],
  };
  for (const name of Object.keys(shapes) as (keyof typeof shapes)[]) {
    const t = args[name];
    if (t !== undefined) expectShape("mambaStep", name, t.shape, shapes[name]);
  }
}
