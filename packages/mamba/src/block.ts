import type { FloatDType } from "@mamba-ts/backend";
import { LayerNorm, Module, RmsNorm } from "@mamba-ts/nn";
import { add, cast, mambaStep, type Tensor } from "@mamba-ts/tensor";
import type { ResolvedMambaConfig } from "./config.js";
import { MambaMixer } from "./mixer.js";
import type { LayerState } from "./state.js";

/** The residual stream: its value is residual + update, left unadded for the next norm, which adds and normalises in one pass. */
export interface Stream {
  readonly residual: Tensor;
  readonly update: Tensor | undefined;
}

/** What a residual Mamba layer is made of, whatever its parts are called in a checkpoint. */
export interface MambaParts {
  readonly norm: RmsNorm | LayerNorm;
  readonly mixer: MambaMixer;
  readonly config: ResolvedMambaConfig;
  /** The norm of the layer behind this one, if it has the same kind of norm: a backend may prepare it. */
  readonly nextNorm?: RmsNorm | LayerNorm | undefined;
}

/**
 * x + mixer(norm(x)).
 * @param stream - [batch, length, dModel]
 * @param marks - int32 [batch, length], see `segmentMarks`; undefined where no token starts a sequence or is padding
 * @param inPlace - the given state may be advanced where it lies
 * @param dtype - of what flows inside the mixer; the stream's own by default
 * @param isForgetful - see `SelectiveSsm.forward`
 */
export function residualMamba(
  parts: MambaParts,
  stream: Stream,
  state: LayerState | undefined,
  marks: Tensor | undefined,
  inPlace: boolean,
  dtype?: FloatDType,
  isForgetful = false,
): Stream & { readonly state: LayerState } {
  const compose = () => {
    const { y, sum } = normalise(parts.norm, stream, dtype);
    const { out, state: next } = parts.mixer.forward(y, state ?? {}, marks, isForgetful);
    return { residual: sum, update: out, convState: next.conv, ssmState: next.ssm };
  };
  // A backend may have the whole block as one kernel; padding and new sequences inside are beyond such kernels.
  const { convState, ssmState, ...out } =
    state === undefined || marks !== undefined
      ? compose()
      : mambaStep(stepArguments(parts, stream, state), stepDescriptor(parts, stream.residual, inPlace, dtype), compose);
  return { ...out, state: { conv: convState, ssm: ssmState } };
}

function stepArguments({ norm, mixer, nextNorm }: MambaParts, { residual, update }: Stream, { conv, ssm }: LayerState) {
  const { conv1d, xProj, dtProj, A_log, D, dtLayernorm, bLayernorm, cLayernorm } = mixer.ssm;
  return {
    x: residual,
    update,
    normWeight: norm.weight.value,
    normBias: norm instanceof LayerNorm ? norm.bias.value : undefined,
    inProj: mixer.inProj.weight.value,
    inBias: mixer.inProj.bias?.value,
    convWeight: conv1d.kernel,
    convBias: conv1d.bias?.value,
    xProj: xProj.weight.value,
    dtProj: dtProj.weight.value,
    dtBias: dtProj.bias!.value,
    A_log: A_log.value,
    D: D.value,
    outProj: mixer.outProj.weight.value,
    outBias: mixer.outProj.bias?.value,
    convState: conv,
    ssmState: ssm,
    dtNorm: dtLayernorm?.weight.value,
    bNorm: bLayernorm?.weight.value,
    cNorm: cLayernorm?.weight.value,
    nextNormWeight: nextNorm?.weight.value,
  };
}

function stepDescriptor(
  { mixer, config }: MambaParts,
  { shape, dtype }: Tensor,
  inPlace: boolean,
  innerDtype: FloatDType | undefined,
) {
  const { dModel, dInner, dState, dConv, dtRank, norm, normEps, innerNorm, innerNormEps } = config;
  const [batch, length] = shape as [number, number, number];
  const weightDtype = mixer.inProj.weight.value.dtype;
  return {
    batch,
    length,
    dModel,
    dInner,
    dState,
    dConv,
    dtRank,
    dtype: dtype as FloatDType,
    weightDtype,
    innerDtype: innerDtype ?? (dtype as FloatDType),
    norm,
    normEps,
    innerNorm,
    innerNormEps,
    inPlace,
  };
}

/** One layer of a Mamba. */
export class MambaBlock extends Module {
  readonly norm: RmsNorm | LayerNorm;
  readonly mixer: MambaMixer;
  readonly #config: ResolvedMambaConfig;

  constructor(config: ResolvedMambaConfig) {
    super();
    this.norm = makeNorm(config);
    this.mixer = new MambaMixer(config);
    this.#config = config;
  }

  /** See `residualMamba`. */
  forward(
    stream: Stream,
    state: LayerState | undefined,
    marks: Tensor | undefined,
    inPlace: boolean,
    dtype?: FloatDType,
    isForgetful = false,
    nextNorm?: RmsNorm | LayerNorm,
  ): Stream & { readonly state: LayerState } {
    const { norm, mixer } = this;
    return residualMamba(
      { norm, mixer, config: this.#config, nextNorm },
      stream,
      state,
      marks,
      inPlace,
      dtype,
      isForgetful,
    );
  }
}

/** The norm that the configuration asks for, over the last axis of [batch, length, dModel]. */
export function makeNorm({ norm, dModel, normEps }: ResolvedMambaConfig): RmsNorm | LayerNorm {
  return norm === "rms" ? new RmsNorm(dModel, normEps) : new LayerNorm(dModel, normEps);
}

/** The norm of the stream, in `dtype`, and its value, in its own precision. */
export function normalise(
  norm: RmsNorm | LayerNorm,
  { residual, update }: Stream,
  dtype: FloatDType = residual.dtype as FloatDType,
): { readonly y: Tensor; readonly sum: Tensor } {
  const { y, sum } = update === undefined ? norm.forward(residual) : norm.forward(update, residual);
  return { y: cast(y, dtype), sum };
}

/** The stream's value, residual + update. */
export function streamValue({ residual, update }: Stream): Tensor {
  return update === undefined ? residual : add(residual, cast(update, residual.dtype));
}
