import { InvalidArgumentError, type MambaStepDescriptor, type MambaStepOptional, type MambaStepRequired } from "@mamba-ts/backend";
import { kernelFor, reportDispatch, type TensorArgs, withNamedOperands, wrap } from "../dispatch.js";
import { commonBackend } from "../run.js";
import { expectShape } from "../shape.js";
import { isRecording } from "../tape.js";
import type { Tensor } from "../tensor.js";
import { accumulationDType } from "./unary.js";

export type MambaStepArguments = { readonly [K in MambaStepRequired]: Tensor } & TensorArgs<MambaStepOptional>;
export interface MambaStepResult {
  /** [batch, dModel] */
  readonly out: Tensor;
  /** [batch, dConv - 1, dInner] */
  readonly convState: Tensor;
  /** [batch, dInner, dState] */
  readonly ssmState: Tensor;
}

/**
 * One residual Mamba block on one token per row. Where the backend has a kernel for the whole block and no gradient is wanted, that
 * runs; otherwise `compose`, which is the block's own forward at length 1: there is no second definition of a block.
 * With `descriptor.inPlace` the given states advance where they lie.
 */
export function mambaStep(args: MambaStepArguments, descriptor: MambaStepDescriptor, compose: () => MambaStepResult): MambaStepResult {
  const names = (Object.keys(args) as (keyof typeof args)[]).filter((name) => args[name] !== undefined);
  const inputs = names.map((name) => args[name] as Tensor);
  const backend = commonBackend("mambaStep", inputs);
  check(args, descriptor);
  const kernel = isRecording(inputs) ? undefined : kernelFor(backend, "mambaStep", descriptor);
  reportDispatch("mambaStep", "forward", kernel === undefined ? "composed" : "fused");
  if (kernel === undefined) return compose();
  const { batch, dModel, dInner, dState, dConv, dtype, inPlace } = descriptor;
  if (inPlace && !(args.convState.isDense && args.ssmState.isDense))
    throw new InvalidArgumentError("mambaStep: states that advance in place must be dense");
  const { outputs } = withNamedOperands(names, inputs, kernel.strided, (operands) => kernel.op.forward(operands as never, descriptor, { save: false }));
  if (inPlace) {
    const { out } = wrap(backend, { out: outputs.out! }, { out: { shape: [batch, dModel], dtype } });
    return { out: out!, convState: args.convState, ssmState: args.ssmState };
  }
  return wrap(backend, outputs, {
    out: { shape: [batch, dModel], dtype },
    convState: { shape: [batch, dConv - 1, dInner], dtype: args.convState.dtype },
    ssmState: { shape: [batch, dInner, dState], dtype: accumulationDType(dtype) },
  }) as unknown as MambaStepResult;
}

function check(args: MambaStepArguments, d: MambaStepDescriptor): void {
  const shapes: { readonly [K in MambaStepRequired | MambaStepOptional]: readonly number[] } = {
    x: [d.batch, d.dModel],
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
