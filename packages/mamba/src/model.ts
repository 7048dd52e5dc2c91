/**
 * Mamba: linear-time sequence modelling with selective state spaces (Gu and Dao, arXiv:2312.00752), as in state-spaces/mamba 1.x.
 *
 * paper   here       meaning
 * B       batch      sequences
 * L       length     tokens of each
 * D       dModel     width of the residual stream;  E D: dInner = expand * dModel, channels inside a block
 * N       dState     states per channel
 * Delta   delta      step size, per token and channel; dt before its projection, of width dtRank
 * A       -exp(A_log), B, C, D   the state space: h' = A h + B x, y = C h + D x
 *
 * One forward serves training, prefill in chunks of any size, and decoding: they differ in the length of the input only.
 * Deviations from upstream: none in what is computed. FalconMamba's norms of dt, B and C follow its reference (slow) path.
 */
import { type Backend, type DType, type FloatDType, ShapeError, UnsupportedError } from "@mamba-ts/backend";
import {
  CausalConv1d,
  constant,
  deltaBiasInit,
  Embedding,
  fanInUniform,
  LayerNorm,
  Linear,
  Module,
  Parameter,
  RmsNorm,
  s4dRealInit,
  uniform,
} from "@mamba-ts/nn";
import {
  add,
  cast,
  checkpoint,
  concat,
  exp,
  fromHost,
  keep,
  linear,
  mambaStep,
  neg,
  Rng,
  rmsNorm,
  scope,
  selectiveScan,
  slice,
  split,
  type Tensor,
  tapeIsOpen,
  zeros,
} from "@mamba-ts/tensor";
import { type MambaConfig, type ResolvedMambaConfig, resolveConfig } from "./config.js";
import { lastRealTokens, planSegments, type SegmentIds, type SegmentPlan, segmentEnds } from "./segments.js";
import { type LayerState, MambaState } from "./state.js";
import { type TokenInput, tokenTensor } from "./tokens.js";

/** The selective state space itself: causal convolution, input-dependent delta, B and C, scan (section 3.2, Alg. 2). */
export class SelectiveSsm extends Module {
  readonly conv1d: CausalConv1d;
  readonly xProj: Linear;
  readonly dtProj: Linear;
  readonly A_log: Parameter;
  readonly D: Parameter;
  readonly #config: ResolvedMambaConfig;

  constructor(config: ResolvedMambaConfig) {
    super();
    const { dInner, dState, dConv, dtRank, convBias, dtInit, dtScale } = config;
    const dtStd = dtScale / Math.sqrt(dtRank);
    this.A_log = new Parameter([dInner, dState], { init: s4dRealInit, decay: false, keepFloat32: true });
    this.D = new Parameter([dInner], { init: constant(1), decay: false, keepFloat32: true });
    this.conv1d = new CausalConv1d(dInner, dConv, { bias: convBias, activation: "silu" });
    this.xProj = new Linear(dInner, dtRank + 2 * dState);
    this.dtProj = new Linear(dtRank, dInner, {
      bias: true,
      init: dtInit === "random" ? uniform(dtStd) : constant(dtStd),
      biasInit: deltaBiasInit(config),
    });
    this.#config = config;
  }

  /**
   * @param x, z - [batch, length, dInner]: the branch that is scanned, and the one that gates it
   * @returns y [batch, length, dInner] and the state after the last token
   */
  forward(
    x: Tensor,
    z: Tensor | undefined,
    state: Partial<LayerState>,
    marks: Tensor | undefined,
  ): { readonly y: Tensor; readonly state: LayerState } {
    const { dtRank, dState, innerNorm, innerNormEps } = this.#config;
    const { y: u, finalState: conv } = this.conv1d.forward(x, state.conv, marks); // [batch, length, dInner]
    let [dt, B, C] = split(this.xProj.forward(u), [dtRank, dState, dState]) as [Tensor, Tensor, Tensor]; // [batch, length, *]
    if (innerNorm !== "none")
      [dt, B, C] = [dt, B, C].map((t) => rmsNorm({ x: t, eps: innerNormEps }).y) as [Tensor, Tensor, Tensor];
    const delta = linear(dt, this.dtProj.weight.value); // [batch, length, dInner]
    const A = neg(exp(this.A_log.value)); // [dInner, dState], A < 0
    const scan = { x: u, delta, A, B, C, D: this.D.value, z, deltaBias: this.dtProj.bias!.value, softplus: true };
    const { y, finalState: ssm } = selectiveScan({ ...scan, initialState: state.ssm, marks });
    return { y, state: { conv, ssm } };
  }
}

/** A Mamba block without its norm (fig. 3): projection into branch and gate, selective state space, projection out. */
export class MambaMixer extends Module {
  readonly inProj: Linear;
  readonly ssm: SelectiveSsm;
  readonly outProj: Linear;
  readonly #dInner: number;

  constructor(config: ResolvedMambaConfig) {
    super();
    const { dModel, dInner, bias, nLayer } = config;
    this.inProj = new Linear(dModel, 2 * dInner, { bias });
    this.ssm = new SelectiveSsm(config);
    // Every layer adds to the residual stream once: scaled so that the sum keeps its size (GPT-2's rule, as upstream).
    this.outProj = new Linear(dInner, dModel, { bias, init: fanInUniform(dInner, 1 / Math.sqrt(Math.max(1, nLayer))) });
    this.#dInner = dInner;
  }

  /** In checkpoints the mixer's and its state space's parameters lie side by side. */
  protected override prefixOf(key: string): string {
    return key === "ssm" ? "" : super.prefixOf(key);
  }

  /** @param h - [batch, length, dModel]  @returns the same shape, and the state */
  forward(
    h: Tensor,
    state: Partial<LayerState>,
    marks: Tensor | undefined,
  ): { readonly out: Tensor; readonly state: LayerState } {
    const [x, z] = split(this.inProj.forward(h), [this.#dInner, this.#dInner]) as [Tensor, Tensor]; // [batch, length, dInner]
    const { y, state: next } = this.ssm.forward(x, z, state, marks);
    return { out: this.outProj.forward(y), state: next }; // [batch, length, dModel]
  }
}

/** The residual stream: its value is residual + update, left unadded for the next norm, which adds and normalises in one pass. */
interface Stream {
  readonly residual: Tensor;
  readonly update: Tensor | undefined;
}

/** x + mixer(norm(x)) */
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

  forward(
    stream: Stream,
    state: LayerState | undefined,
    marks: Tensor | undefined,
    inPlace: boolean,
  ): Stream & { readonly state: LayerState } {
    const compose = () => {
      const { y, sum } = normalise(this.norm, stream);
      const { out, state: next } = this.mixer.forward(y, state ?? {}, marks);
      return { residual: sum, update: out, convState: next.conv, ssmState: next.ssm };
    };
    // A backend may have the whole block as one kernel; padding and new sequences inside are beyond such kernels.
    const { convState, ssmState, ...out } =
      state === undefined || marks !== undefined
        ? compose()
        : mambaStep(this.#stepArguments(stream, state), this.#stepDescriptor(stream.residual, inPlace), compose);
    return { ...out, state: { conv: convState, ssm: ssmState } };
  }

  #stepArguments({ residual, update }: Stream, { conv, ssm }: LayerState) {
    const { norm, mixer } = this;
    const { conv1d, xProj, dtProj, A_log, D } = mixer.ssm;
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
    };
  }

  #stepDescriptor({ shape, dtype }: Tensor, inPlace: boolean) {
    const { dModel, dInner, dState, dConv, dtRank, norm, normEps, innerNorm, innerNormEps } = this.#config;
    const [batch, length] = shape as [number, number, number];
    const weightDtype = this.mixer.inProj.weight.value.dtype;
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
      norm,
      normEps,
      innerNorm,
      innerNormEps,
      inPlace,
    };
  }
}

function makeNorm({ norm, dModel, normEps }: ResolvedMambaConfig): RmsNorm | LayerNorm {
  return norm === "rms" ? new RmsNorm(dModel, normEps) : new LayerNorm(dModel, normEps);
}

function normalise(
  norm: RmsNorm | LayerNorm,
  { residual, update }: Stream,
): { readonly y: Tensor; readonly sum: Tensor } {
  return update === undefined ? norm.forward(residual) : norm.forward(update, residual);
}

/** Embedding, blocks and the final norm, under the name they have in checkpoints. */
export class MambaBackbone extends Module {
  readonly embeddings: Embedding;
  readonly layers: readonly MambaBlock[];
  readonly normF: RmsNorm | LayerNorm;

  constructor(config: ResolvedMambaConfig) {
    super();
    this.embeddings = new Embedding(config.vocabSize, config.dModel);
    this.layers = Array.from({ length: config.nLayer }, () => new MambaBlock(config));
    this.normF = makeNorm(config);
  }
}

export interface ForwardOptions {
  /** The state to continue from; a fresh one by default. */
  readonly state?: MambaState | undefined;
  /** Advances this state in place (give the same one as `state`); refused while gradients are recorded. */
  readonly into?: MambaState | undefined;
  /**
   * Ids [batch, length] (rows, or all in one array). A change of id starts a new sequence; -1 is padding. A continued state remembers
   * its id. Padding may stand anywhere.
   */
  readonly segments?: SegmentIds | undefined;
  /** Which logits to compute: of all positions, of each row's last real one, or none. "all" by default. */
  readonly logits?: "all" | "last" | "none";
  /** "all": also return the state at the end of every segment. */
  readonly states?: "last" | "all";
  /** Also return the residual stream after every layer, the last one after the final norm. */
  readonly hiddenStates?: boolean;
  /** Keep only the blocks' inputs for the gradient, and compute the rest again: less memory, a third more time. */
  readonly recompute?: boolean;
  /** Training mode; a Mamba has no dropout, so nothing depends on it. */
  readonly train?: boolean;
}

/** The state a segment of a packed row ends in. */
export interface SegmentState {
  readonly row: number;
  readonly id: number;
  readonly state: MambaState;
}

export interface ForwardResult {
  /** [batch, length, dModel], after the final norm. */
  readonly hidden: Tensor;
  /** [batch, length or 1, vocabSize] */
  readonly logits?: Tensor;
  readonly state: MambaState;
  readonly segmentStates?: readonly SegmentState[];
  readonly hiddenStates?: readonly Tensor[];
}

/** The language model. Making one takes no memory; `Mamba.create` draws weights, `loadMamba` reads them. */
export class Mamba extends Module {
  readonly backbone: MambaBackbone;
  readonly lmHead?: Linear;
  readonly #config: ResolvedMambaConfig;

  constructor(config: MambaConfig) {
    super();
    this.#config = resolveConfig(config);
    this.backbone = new MambaBackbone(this.#config);
    const { tieEmbeddings, dModel, vocabSize } = this.#config;
    if (!tieEmbeddings) this.lmHead = new Linear(dModel, vocabSize);
  }

  /** A model with random weights, drawn as upstream does; the same seed gives the same weights everywhere. */
  static create(
    config: MambaConfig,
    {
      backend,
      seed = 0,
      dtype = "float32",
    }: { readonly backend: Backend; readonly seed?: number; readonly dtype?: DType },
  ): Mamba {
    return new Mamba(config).initialise(backend, new Rng(seed), dtype);
  }

  get config(): ResolvedMambaConfig {
    return this.#config;
  }

  get backend(): Backend {
    return this.backbone.embeddings.weight.value.backend;
  }

  /** The head's weight [vocabSize, dModel], for losses that never hold all logits. */
  get headWeight(): Tensor {
    return (this.lmHead ?? this.backbone.embeddings).weight.value;
  }

  /** A fresh state for `batch` sequences, owned by the caller. */
  createState(batch: number): MambaState {
    const { dConv, dInner, dState } = this.#config;
    const { backend } = this;
    const type = this.#streamDType();
    const layer = (): LayerState => ({
      conv: keep(zeros(backend, [batch, dConv - 1, dInner], type)),
      ssm: keep(zeros(backend, [batch, dInner, dState], type)),
    });
    return new MambaState(this.backbone.layers.map(layer), new Int32Array(batch).fill(-1));
  }

  /** The inverse of a state's `save`. */
  restoreState(bytes: Uint8Array): Promise<MambaState> {
    return MambaState.restore(bytes, { backend: this.backend, config: this.#config });
  }

  #streamDType(): "float32" | "float64" {
    return this.backbone.embeddings.weight.value.dtype === "float64" ? "float64" : "float32";
  }

  /**
   * The only way through the model.
   * @param input - token ids [batch, length]: rows, or an int32 tensor (whose ids are not checked: one outside the vocabulary reads as zeros)
   * Throws InvalidArgumentError naming a token outside the vocabulary, ShapeError for a state or segments of another batch.
   */
  forward(input: TokenInput, options: ForwardOptions = {}): ForwardResult {
    // What is made on the way goes with the call, even where the caller has no scope open.
    return scope(() => this.#forward(input, options) as never);
  }

  #forward(input: TokenInput, options: ForwardOptions): ForwardResult {
    const { state, into, segments, logits = "all", states = "last" } = options;
    const tokens = tokenTensor(this.backend, input, this.#config.vocabSize); // [batch, length]
    const [batch, length] = tokens.shape as [number, number];
    if (state !== undefined && state.batch !== batch)
      throw new ShapeError(`forward: the state has ${state.batch} rows, the input [${batch}, ${length}]`);
    if (into !== undefined) refuseIntoOnTape();
    const plan = planSegments(segments, batch, length, state?.segments);
    const result =
      states === "all"
        ? this.#forwardBySegments(tokens, state, plan, options)
        : this.#run(tokens, state, plan, options);
    if (into !== undefined) into.assign(result.state);
    const { hidden } = result;
    if (logits === "none") return { ...result, state: into ?? result.state };
    const rows = logits === "all" ? hidden : lastRealTokens(hidden, plan);
    return { ...result, state: into ?? result.state, logits: linear(rows, this.headWeight) };
  }

  #run(
    tokens: Tensor,
    state: MambaState | undefined,
    plan: SegmentPlan,
    { into, hiddenStates = false, recompute = false }: ForwardOptions,
  ): ForwardResult {
    const { embeddings, layers, normF } = this.backbone;
    const [batch, length] = tokens.shape as [number, number];
    const marks = plan.marks === undefined ? undefined : fromHost(this.backend, plan.marks, [batch, length], "int32");
    const inPlace = into !== undefined && into === state;
    // The residual stream is float32 whatever the weights are.
    let stream: Stream = { residual: cast(embeddings.forward(tokens), this.#streamDType()), update: undefined }; // [batch, length, dModel]
    const next: LayerState[] = [];
    const seen: Tensor[] = [];
    layers.forEach((layer, i) => {
      const before = stream;
      const run = () => layer.forward(before, state?.layers[i], marks, inPlace);
      const { state: after, ...out } = recompute ? checkpoint(run) : run();
      stream = out;
      next.push(after);
      if (hiddenStates && i < layers.length - 1) seen.push(streamValue(out));
    });
    if (hiddenStates && layers.length > 0) seen.push(streamValue(stream));
    const { y: hidden } = normalise(normF, stream);
    return {
      hidden,
      state: new MambaState(next, plan.last),
      ...(hiddenStates ? { hiddenStates: [...seen, hidden] } : {}),
    };
  }

  /** Runs from one segment end to the next, so that the state at each of them passes by. */
  #forwardBySegments(
    tokens: Tensor,
    state: MambaState | undefined,
    plan: SegmentPlan,
    options: ForwardOptions,
  ): ForwardResult {
    const parts: Tensor[] = [];
    const segmentStates: SegmentState[] = [];
    let current = state;
    for (const { start, end, ended } of segmentEnds(plan)) {
      const part = this.#run(slice(tokens, 1, start, end), current, plan.slice(start, end), {
        ...options,
        into: undefined,
        hiddenStates: false,
      });
      parts.push(part.hidden);
      current = part.state;
      for (const { row, id } of ended) segmentStates.push({ row, id, state: part.state.row(row, id) });
    }
    if (current === undefined || parts.length === 0) return this.#run(tokens, state, plan, options);
    return { hidden: concat(parts, 1), state: current, segmentStates };
  }
}

function streamValue({ residual, update }: Stream): Tensor {
  return update === undefined ? residual : add(residual, update);
}

function refuseIntoOnTape(): void {
  if (tapeIsOpen())
    throw new UnsupportedError("forward: `into` cannot be used while gradients are recorded", {
      hint: "take the returned state instead",
    });
}
