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
  if (kernel === undefined) {
    // A block over a whole sequence is not a step that lacks a kernel.
    if (descriptor.length === 1) reportDispatch("mambaStep", "forward", "composed");
    return compose();
  }
  reportDispatch("mambaStep", "forward", "fused");
  check(args, descriptor);
  const { batch, length, dModel, dInner, dState, dConv, dtype, inPlace } = descriptor;
  const out = { shape: [batch, length, dModel], dtype };
  if (inPlace && !(args.convState.isDense && args.ssmState.isDense))
    throw new InvalidArgumentError("mambaStep: states that advance in place must be dense");
  const { outputs } = withNamedOperands(names, inputs, kernel.strided, (operands) =>
    kernel.op.forward(operands as never, descriptor, { save: false }),
  );
  if (inPlace) {
    const made = wrap(backend, { out: outputs["out"]! }, { out });
    return { residual: made.out!, update: undefined, convState: args.convState, ssmState: args.ssmState };
  }
  const made = wrap(backend, outputs as { readonly [K in "out" | "convState" | "ssmState"]?: Buf }, {
    out,
    convState: { shape: [batch, dConv - 1, dInner], dtype: args.convState.dtype },
    ssmState: { shape: [batch, dInner, dState], dtype: accumulationDType(dtype) },
  });
  return { residual: made.out!, update: undefined, convState: made.convState!, ssmState: made.ssmState! };
}

function check(args: MambaStepArguments, d: MambaStepDescriptor): void {
  const shapes: { readonly [K in MambaStepRequired | MambaStepOptional]: readonly number[] } = {
    x: [d.batch, d.length, d.dModel],
    update: [d.batch, d.length, d.dModel],
    normWeight: [d.dModel],
    normBias: [d.dModel],
    inProj: [2 * d.dInner, d.dModel],
    inBias: [2 * d.dInner],
    convWeight: [d.dInner, d.dConv],
    convBias: [d.dInner],
    xProj: [d.dtRank + 2 * d.dState, d.dInner],
    dtProj: [d.dInner, d.dtRank],
    dtBias: [d.dInner],
    dtNorm: [d.dtRank],
    bNorm: [d.dState],
    cNorm: [d.dState],
    nextNormWeight: [d.dModel],
    A_log: [d.dInner, d.dState],
    D: [d.dInner],
    outProj: [d.dModel, d.dInner],
    outBias: [d.dModel],
    convState: [d.batch, d.dConv - 1, d.dInner],
    ssmState: [d.batch, d.dInner, d.dState],
  };
  for (const name of Object.keys(shapes) as (keyof typeof shapes)[]) {
    const t = args[name];
    if (t !== undefined) expectShape("mambaStep", name, t.shape, shapes[name]);
  }
}
