/**
 * Fused operations: all optional. Core has a composition and a gradient for each of them, so a backend adds one only where a
 * kernel of its own is faster. Shapes below are those of the operands; `?` marks operands that may be absent.
 */
import type { DType, FloatDType } from "./dtype.js";
import type { Buf, Operand } from "./primitives.js";

type Operands<Required extends string, Optional extends string> = { readonly [K in Required]: Operand } & {
  readonly [K in Optional]?: Operand | undefined;
};

/** `true`, or the names of the arguments that may be slices of their last axis (see Operand); `false`: core composes. */
export type Support<Name extends string> = boolean | { readonly strided: readonly Name[] };

export interface FusedOp<Descriptor, Required extends string, Optional extends string, Output extends string> {
  supports(descriptor: Descriptor): Support<Required | Optional>;
  /** With `save`, `saved` holds what `backward` will want beside arguments and outputs; the tape owns and frees it. */
  forward(
    args: Operands<Required, Optional>,
    descriptor: Descriptor,
    options: { readonly save: boolean },
  ): { readonly outputs: { readonly [K in Output]?: Buf }; readonly saved: readonly Buf[] };
  /** Whether `backward` covers this case too; if absent, it covers all that `supports` accepts. */
  supportsBackward?(descriptor: Descriptor): boolean;
  /**
   * Names of the arguments and outputs that `backward` reads: the others are not kept for it, and it is called without them. If absent, all are.
   */
  backwardReads?(descriptor: Descriptor): readonly (Required | Optional | Output)[];
  /**
   * Gradients (overwritten, not accumulated) of the arguments named in `needs`, float32 or the argument's own dtype, dense.
   * `gradOutputs` lacks the outputs nothing depends on. Without this member the gradient of the composition is used.
   */
  backward?(
    args: Operands<Required, Optional>,
    descriptor: Descriptor,
    outputs: { readonly [K in Output]?: Operand },
    saved: readonly Buf[],
    gradOutputs: { readonly [K in Output]?: Operand },
    needs: ReadonlySet<Required | Optional>,
  ): { readonly [K in Required | Optional]?: Buf };
}

/** An operation without a gradient. */
export interface FusedCall<Descriptor, Required extends string, Optional extends string, Output extends string> {
  supports(descriptor: Descriptor): Support<Required | Optional>;
  forward(
    args: Operands<Required, Optional>,
    descriptor: Descriptor,
  ): { readonly outputs: { readonly [K in Output]: Buf } };
}

/**
 * Mamba-1 selective scan (arXiv:2312.00752, Alg. 2), with A = diag per channel:
 * d = softplus?(delta + deltaBias); h[t] = exp(d A) h[t-1] + d B[t] x[t]; y = (C[t] . h[t] + D x) silu(z).
 *
 * x, delta, z?, y [batch, length, dInner]; A [dInner, dState]; B, C [batch, length, groups * dState], channel c uses group
 * floor(c / (dInner / groups)); D?, deltaBias? [dInner]; initialState?, finalState [batch, dInner, dState], float32 (float64 when x is);
 * marks? int32 [batch, length]: 1 clears the state before this token, -1 is padding (state held, y = 0 and nothing is read).
 * The state and every accumulation are float32 at least. Any length, 0 included (finalState is then initialState or zeros).
 */
export interface SelectiveScanDescriptor {
  readonly batch: number;
  readonly length: number;
  readonly dInner: number;
  readonly dState: number;
  readonly groups: number;
  /** dtype of x, delta, B, C, z and y; A, D, deltaBias and the states are float32, or float64 where this is. */
  readonly dtype: FloatDType;
  readonly softplus: boolean;
  readonly hasD: boolean;
  readonly hasZ: boolean;
  readonly hasDeltaBias: boolean;
  readonly hasInitialState: boolean;
  readonly hasMarks: boolean;
}

/**
 * Causal depthwise convolution: y[t, c] = activation(bias[c] + sum_k weight[c, k] x[t - (width - 1) + k, c]).
 *
 * x, y [batch, length, channels]; weight [channels, width]; bias? [channels]; initialState?, finalState [batch, width - 1, channels]:
 * the last inputs of what came before, oldest first. marks? as in the scan: 1 forgets earlier tokens, -1 is skipped as if it
 * were not there (y = 0), so that windows and finalState hold real tokens only.
 */
export interface CausalConv1dDescriptor {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly width: number;
  readonly dtype: FloatDType;
  readonly activation: "none" | "silu";
  readonly hasBias: boolean;
  readonly hasInitialState: boolean;
  readonly hasMarks: boolean;
}

/** y = (y0 + D x) silu(z). y0, x?, z? [rows, channels]; D? [channels]; D and x come together. */
export interface GatedOutputDescriptor {
  readonly rows: number;
  readonly channels: number;
  readonly dtype: FloatDType;
  readonly hasD: boolean;
  readonly hasZ: boolean;
}

/** y = x Phi(x) with the normal distribution's Phi (gelu), x [rows, width]; or y = a sigmoid(b) (glu), x = [a, b] [rows, 2 width]. y [rows, width]. */
export interface ActivationDescriptor {
  readonly rows: number;
  /** Of y. */
  readonly width: number;
  readonly kind: "gelu" | "glu";
  readonly dtype: FloatDType;
}

/**
 * s = x + residual; y = s / rms(s) * weight, rms over the last axis with eps inside the root; `sum` is s.
 * x, residual?, y, sum [rows, width]; weight? [width]. `sum` is among the outputs only when there is a residual.
 * The statistics are float32 (float64 where x is).
 */
export interface RmsNormDescriptor {
  readonly rows: number;
  readonly width: number;
  readonly dtype: FloatDType;
  /** dtype of the residual stream and of `sum`. */
  readonly residualDtype: FloatDType;
  readonly eps: number;
  readonly hasWeight: boolean;
  readonly hasResidual: boolean;
}

/** s = x + residual; y = (s - mean(s)) / sqrt(var(s) + eps) * weight + bias, biased variance; shapes as in rmsNorm, bias? [width]. */
export interface LayerNormDescriptor extends RmsNormDescriptor {
  readonly hasBias: boolean;
}

/**
 * loss[i] = logsumexp_v(hidden[i] . weight[v]) - hidden[i] . weight[targets[i]], 0 where the target is negative (ignored).
 * hidden [rows, width]; weight [vocab, width]; targets int32 [rows]; loss [rows] float32 (float64 where hidden is).
 * No implementation may keep all logits.
 */
export interface LinearCrossEntropyDescriptor {
  readonly rows: number;
  readonly width: number;
  readonly vocab: number;
  readonly dtype: FloatDType;
}

/**
 * Grouped-query attention with an online softmax: y = softmax(scale q k^T + mask) v, head h using key-value head floor(h / (heads / kvHeads)).
 * q, y [batch, queries, heads, headDim]; k, v [batch, keys, kvHeads, headDim]. With `causal`, query i sees key j iff
 * j <= i + keys - queries. querySegments? int32 [batch, queries] and keySegments? [batch, keys] come together: only equal, non-negative ids see
 * each other. A query that sees nothing gives zeros.
 */
export interface AttentionDescriptor {
  readonly batch: number;
  readonly queries: number;
  readonly keys: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly dtype: FloatDType;
  readonly causal: boolean;
  readonly scale: number;
  readonly hasSegments: boolean;
}

/**
 * Mixture of experts, grouped by expert: y[i] = sum_j weights[i, j] expert[indices[i, j]](x[i]), an index of -1 contributes nothing.
 * Expert: down . (activation(gate x) * (up x)), or down . activation(up x) without gate.
 * x, y [tokens, width]; indices int32 [tokens, topK]; weights [tokens, topK]; gate?, up [experts, hidden, width]; down [experts, width, hidden].
 * Only chosen experts may be computed, and nothing is read back.
 */
export interface MoeDescriptor {
  readonly tokens: number;
  readonly width: number;
  readonly hidden: number;
  readonly experts: number;
  readonly topK: number;
  readonly dtype: FloatDType;
  readonly activation: "relu" | "silu" | "gelu";
  readonly gated: boolean;
}

/** y = x weight^T + bias. x [rows, inFeatures]; weight [outFeatures, inFeatures] of any dtype, block formats included; bias? [outFeatures]. */
export interface LinearDescriptor {
  readonly rows: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly dtype: FloatDType;
  readonly weightDtype: DType;
  /** dtype of y. */
  readonly out: FloatDType;
  readonly hasBias: boolean;
}

/**
 * Real Fourier transform over the last axis, unnormalised forwards and divided by n backwards (NumPy's rfft and irfft).
 * Forwards: x [rows, n] -> y [rows, floor(n / 2) + 1, 2], (re, im) pairs. Backwards: the reverse.
 */
export interface FftDescriptor {
  readonly rows: number;
  readonly n: number;
  readonly inverse: boolean;
  readonly dtype: FloatDType;
}

/**
 * Convolution with kernels as long as the sequence: y[b, t, c, h] = sum_s kernel[c, h, (t - s) mod size] u[b, s, h] for t < length, by
 * transforms of length `size`, an even number of at least length and taps. u [batch, length, heads], kernel [channels, heads, taps],
 * y [batch, length, channels, heads]. Causal where size is at least length + taps - 1; taps from size - length + 1 on reach ahead.
 */
export interface FftConvolutionDescriptor {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly heads: number;
  readonly taps: number;
  readonly size: number;
  readonly dtype: FloatDType;
}

/**
 * One whole residual Mamba block on a few tokens, usually one: out = s + mixer(norm(s)) with s = x + update.
 * x, update?, out [batch, length, dModel]; weights under the checkpoint's names; convState [batch, dConv - 1, dInner], ssmState
 * [batch, dInner, dState]. With `inPlace` the state outputs are the state arguments' own buffers, advanced.
 * `supports` says which lengths a kernel takes: core offers every call.
 */
export interface MambaStepDescriptor {
  readonly batch: number;
  readonly length: number;
  readonly dModel: number;
  readonly dInner: number;
  readonly dState: number;
  readonly dConv: number;
  readonly dtRank: number;
  readonly dtype: FloatDType;
  readonly weightDtype: DType;
  /** What flows between the operations inside may be rounded to this: what goes into a product, for one. `dtype`: nothing is rounded. */
  readonly innerDtype: FloatDType;
  readonly norm: "rms" | "layer";
  readonly normEps: number;
  /** RMS norms of dt, B and C before they are used: none, without weights (FalconMamba), or with weights (Jamba). */
  readonly innerNorm: "none" | "plain" | "weighted";
  readonly innerNormEps: number;
  readonly inPlace: boolean;
}
export type MambaStepRequired =
  | "x"
  | "normWeight"
  | "inProj"
  | "convWeight"
  | "xProj"
  | "dtProj"
  | "dtBias"
  | "A_log"
  | "D"
  | "outProj"
  | "convState"
  | "ssmState";
export type MambaStepOptional =
  | "update"
  | "normBias"
  | "inBias"
  | "convBias"
  | "outBias"
  | "dtNorm"
  | "bNorm"
  | "cNorm"
  /**
   * [dModel], the weight of the norm, of the same kind, of the block behind this one: a kernel may prepare that norm with the stream at hand. It
   * changes nothing that is returned.
   */
  | "nextNormWeight";

/** Writes `update` [batch, length, ...rest] into `cache` [batch, capacity, ...rest] at `position`, in place; the output is the cache's own buffer. */
export interface KvAppendDescriptor {
  readonly batch: number;
  readonly capacity: number;
  readonly length: number;
  readonly width: number;
  readonly position: number;
  readonly dtype: FloatDType;
}

/** One AdamW step (arXiv:1711.05101) over all parameters, in place: p -= lr (m^ / (sqrt(v^) + eps) + decay p). */
export interface AdamWDescriptor {
  readonly lr: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  /** Counts from 1; gives the bias corrections. */
  readonly step: number;
  /** Weight decay, one per parameter. */
  readonly weightDecay: readonly number[];
  /** Gradients are multiplied by this first (clipping, accumulation). */
  readonly gradScale: number;
}
export interface AdamWOp {
  supports(descriptor: AdamWDescriptor): boolean;
  /** param, grad, m, v have one operand per parameter; param, m and v are overwritten. */
  forward(
    args: { readonly [K in "param" | "grad" | "m" | "v"]: readonly Operand[] },
    descriptor: AdamWDescriptor,
  ): void;
}

/**
 * Draws one token per row. Scores are logits / temperature; kept are the topK largest, then the smallest set of the most probable
 * tokens whose probability reaches topP, then those with at least minP times the largest probability; ties with the last one kept stay.
 * The token maximises score + Gumbel noise made from Philox(seed, counter), see `philox` in core; temperature 0 takes the largest logit.
 * logits [batch, vocab] -> token int32 [batch]; logprob [batch], of the token under softmax(logits), float32.
 *
 * `inPlace`, for steps that are replayed: token and counter, int32 [batch], are arguments. Row r draws with counter[r], an unsigned integer,
 * instead of the descriptor's, and leaves counter[r] + 1; token is overwritten with what is drawn, and is the output of that name.
 */
export interface SampleDescriptor {
  readonly batch: number;
  readonly vocab: number;
  readonly temperature: number;
  /** 0: all. */
  readonly topK: number;
  /** 1: all. */
  readonly topP: number;
  /** 0: all. */
  readonly minP: number;
  readonly seed: number;
  readonly counter: number;
  readonly inPlace: boolean;
}

export interface FusedOps {
  readonly selectiveScan?: FusedOp<
    SelectiveScanDescriptor,
    "x" | "delta" | "A" | "B" | "C",
    "D" | "z" | "deltaBias" | "initialState" | "marks",
    "y" | "finalState"
  >;
  readonly causalConv1d?: FusedOp<
    CausalConv1dDescriptor,
    "x" | "weight",
    "bias" | "initialState" | "marks",
    "y" | "finalState"
  >;
  readonly gatedOutput?: FusedOp<GatedOutputDescriptor, "y", "x" | "D" | "z", "out">;
  readonly activation?: FusedOp<ActivationDescriptor, "x", never, "y">;
  readonly rmsNorm?: FusedOp<RmsNormDescriptor, "x", "weight" | "residual", "y" | "sum">;
  readonly layerNorm?: FusedOp<LayerNormDescriptor, "x", "weight" | "bias" | "residual", "y" | "sum">;
  readonly linearCrossEntropy?: FusedOp<LinearCrossEntropyDescriptor, "hidden" | "weight" | "targets", never, "loss">;
  readonly attention?: FusedOp<AttentionDescriptor, "q" | "k" | "v", "querySegments" | "keySegments", "y">;
  readonly moe?: FusedOp<MoeDescriptor, "x" | "indices" | "weights" | "up" | "down", "gate", "y">;
  readonly linear?: FusedOp<LinearDescriptor, "x" | "weight", "bias", "y">;
  readonly fft?: FusedOp<FftDescriptor, "x", never, "y">;
  readonly fftConvolution?: FusedOp<FftConvolutionDescriptor, "u" | "kernel", never, "y">;
  readonly mambaStep?: FusedCall<
    MambaStepDescriptor,
    MambaStepRequired,
    MambaStepOptional,
    "out" | "convState" | "ssmState"
  >;
  readonly kvAppend?: FusedCall<KvAppendDescriptor, "cache" | "update", never, "cache">;
  readonly adamw?: AdamWOp;
  readonly sample?: FusedCall<SampleDescriptor, "logits", "token" | "counter", "token" | "logprob">;
}
