/**
 * MoE-Mamba: efficient selective state space models with mixture of experts (Pioro et al., arXiv:2401.04081), with Switch layers
 * (arXiv:2101.03961).
 *
 * paper        here             meaning
 * N_experts    nExperts         experts of a layer; each is down relu(up x), without biases
 * d_expert     dExpert          width inside an expert
 * C            capacityFactor   in training an expert takes capacityFactor * tokens * topK / nExperts choices
 * alpha        balanceCoef      weight of the load-balancing loss
 *
 * Each of nLayer blocks is h += mamba(norm(h)); h += switch(norm(h)). Choices beyond an expert's capacity are dropped in batch-major order, first
 * row first, first token first, and contribute nothing, so that the residual passes the token on. (The reference picks which ones by a sort
 * over equal keys: any order.) There is capacity in training only: a step of one token has nothing to divide.
 */
import { type Backend, type DType, type FloatDType, ShapeError, UnsupportedError } from "@mamba-ts/backend";
import {
  type LayerState,
  lastRealTokens,
  MambaMixer,
  MambaState,
  makeNorm,
  normalise,
  planSegments,
  type ResolvedMambaConfig,
  residualMamba,
  type SegmentIds,
  type SegmentPlan,
  type Stream,
  streamValue,
  type TokenInput,
  tokenTensor,
} from "@mamba-ts/mamba";
import {
  droppedChoices,
  Embedding,
  expertCounts,
  type LayerNorm,
  Linear,
  loadBalancingLoss,
  Module,
  MoE,
  type Recompute,
  type RmsNorm,
  type Routing,
  routerZLoss,
  truncatedNormal,
} from "@mamba-ts/nn";
import { add, cast, checkpoint, fromHost, linear, mul, Rng, scope, type Tensor, tapeIsOpen } from "@mamba-ts/tensor";
import { type MoEMambaConfig, type ResolvedMoEMambaConfig, resolveMoEMambaConfig } from "./config.js";

/** h += mamba(norm(h)); h += switch(norm(h)) */
export class MoEMambaBlock extends Module {
  readonly norm: RmsNorm | LayerNorm;
  readonly mixer: MambaMixer;
  readonly moeNorm: RmsNorm | LayerNorm;
  readonly moe: MoE;
  readonly #mamba: ResolvedMambaConfig;

  constructor({ mamba, nExperts, dExpert, topK }: ResolvedMoEMambaConfig) {
    super();
    const { dModel } = mamba;
    const init = (fanIn: number) => truncatedNormal(Math.sqrt(0.1 / fanIn));
    this.norm = makeNorm(mamba);
    this.mixer = new MambaMixer(mamba);
    this.moeNorm = makeNorm(mamba);
    this.moe = new MoE({
      width: dModel,
      hidden: dExpert,
      experts: nExperts,
      topK,
      activation: "relu",
      gated: false,
      routerInit: init(dModel),
      init: init(dModel),
      downInit: init(nExperts * dExpert),
    });
    this.#mamba = mamba;
  }

  /** The stream [batch, length, dModel] after the Mamba layer and the experts, the Mamba layer's state, and how the router chose. */
  forward(
    stream: Stream,
    state: LayerState | undefined,
    call: {
      readonly marks: Tensor | undefined;
      readonly real: Tensor | undefined;
      readonly capacity: number | undefined;
      readonly inPlace: boolean;
      readonly dtype: FloatDType | undefined;
      readonly isForgetful: boolean;
    },
  ): Stream & { readonly state: LayerState; readonly routing: Routing } {
    const { norm, mixer } = this;
    const parts = { norm, mixer, config: this.#mamba };
    const { state: next, ...mixed } = residualMamba(
      parts,
      stream,
      state,
      call.marks,
      call.inPlace,
      call.dtype,
      call.isForgetful,
    );
    const { y, sum } = normalise(this.moeNorm, mixed, call.dtype); // [batch, length, dModel]
    const { y: update, routing } = this.moe.forward(y, call);
    return { residual: sum, update, state: next, routing };
  }
}

/** Embedding, blocks and the final norm. */
export class MoEMambaBackbone extends Module {
  readonly embeddings: Embedding;
  readonly layers: readonly MoEMambaBlock[];
  readonly normF: RmsNorm | LayerNorm;

  constructor(config: ResolvedMoEMambaConfig) {
    super();
    const { mamba } = config;
    this.embeddings = new Embedding(mamba.vocabSize, mamba.dModel);
    this.layers = Array.from({ length: mamba.nLayer }, () => new MoEMambaBlock(config));
    this.normF = makeNorm(mamba);
  }
}

export interface MoEMambaForwardOptions {
  /** The state to continue from; a fresh one by default. */
  readonly state?: MambaState | undefined;
  /** Advances this state in place (give the same one as `state`); refused while gradients are recorded. */
  readonly into?: MambaState | undefined;
  /** Ids [batch, length]. A change of id starts a new sequence; -1 is padding, anywhere, and goes to no expert. */
  readonly segments?: SegmentIds | undefined;
  /** "all" by default. */
  readonly logits?: "all" | "last" | "none";
  /** Also return the residual stream after every block, the last one after the final norm. */
  readonly hiddenStates?: boolean;
  /** What is computed again for the gradient instead of kept. */
  readonly recompute?: Recompute;
  /** What flows between the operations of a layer, see Mamba's `forward`; the stream's dtype by default. */
  readonly dtype?: FloatDType | undefined;
  /** Training mode: experts have a capacity, and the routers' losses come as `penalty`. */
  readonly train?: boolean;
  /** Also return where tokens went. */
  readonly loads?: boolean;
}

/** Where the tokens of one call went, in one block. */
export interface ExpertLoad {
  /** [nExperts]: choices of each expert, dropped ones included. */
  readonly counts: Tensor;
  /** A scalar: choices that found no room. */
  readonly dropped: Tensor;
}

export interface MoEMambaForwardResult {
  /** [batch, length, dModel], after the final norm. */
  readonly hidden: Tensor;
  /** [batch, length or 1, vocabSize] */
  readonly logits?: Tensor;
  readonly state: MambaState;
  readonly hiddenStates?: readonly Tensor[];
  /** What training adds to the loss: balanceCoef times the blocks' mean load-balancing loss and zCoef times their mean z-loss. */
  readonly penalty?: Tensor;
  readonly loads?: readonly ExpertLoad[];
}

/** The language model. Making one takes no memory; `MoEMamba.create` draws weights, `loadMoEMamba` reads them. */
export class MoEMamba extends Module {
  /** A step of one token launches the same work whatever has been read, so that it can be captured. */
  readonly hasFixedStep = true;
  readonly backbone: MoEMambaBackbone;
  readonly lmHead?: Linear;
  readonly #config: ResolvedMoEMambaConfig;

  constructor(config: MoEMambaConfig) {
    super();
    this.#config = resolveMoEMambaConfig(config);
    this.backbone = new MoEMambaBackbone(this.#config);
    const { tieEmbeddings, dModel, vocabSize } = this.#config.mamba;
    if (!tieEmbeddings) this.lmHead = new Linear(dModel, vocabSize);
  }

  /** A model with random weights; the same seed gives the same weights everywhere. */
  static create(
    config: MoEMambaConfig,
    {
      backend,
      seed = 0,
      dtype = "float32",
    }: { readonly backend: Backend; readonly seed?: number; readonly dtype?: DType },
  ): MoEMamba {
    return new MoEMamba(config).initialise(backend, new Rng(seed), dtype);
  }

  get config(): ResolvedMoEMambaConfig {
    return this.#config;
  }

  get backend(): Backend {
    return this.backbone.embeddings.weight.value.backend;
  }

  /** The head's weight [vocabSize, dModel], for losses that never hold all logits. */
  get headWeight(): Tensor {
    return (this.lmHead ?? this.backbone.embeddings).weight.value;
  }

  /** Parameters that one token meets: all but the experts that are not chosen. */
  get activeParameterCount(): number {
    const { nExperts, topK, dExpert, mamba } = this.#config;
    return this.parameterCount - mamba.nLayer * (nExperts - topK) * 2 * mamba.dModel * dExpert;
  }

  /** A fresh state for `batch` sequences, owned by the caller. Only the Mamba layers have one. */
  createState(batch: number): MambaState {
    return MambaState.create(this.backend, this.#config.mamba, batch, this.#streamDType());
  }

  /** The inverse of a state's `save`. */
  restoreState(bytes: Uint8Array): Promise<MambaState> {
    return MambaState.restore(bytes, { backend: this.backend, config: this.#config.mamba });
  }

  #streamDType(): "float32" | "float64" {
    return this.backbone.embeddings.weight.value.dtype === "float64" ? "float64" : "float32";
  }

  /**
   * The only way through the model.
   * @param input - token ids [batch, length]: rows, or an int32 tensor (whose ids are not checked: one outside the vocabulary reads as zeros)
   * Throws InvalidArgumentError naming a token outside the vocabulary, ShapeError for a state or segments of another batch.
   */
  forward(input: TokenInput, options: MoEMambaForwardOptions = {}): MoEMambaForwardResult {
    return scope(() => this.#forward(input, options) as never);
  }

  #forward(input: TokenInput, options: MoEMambaForwardOptions): MoEMambaForwardResult {
    const { state, into, segments, logits = "all" } = options;
    const tokens = tokenTensor(this.backend, input, this.#config.mamba.vocabSize); // [batch, length]
    const [batch, length] = tokens.shape as [number, number];
    if (state !== undefined && state.batch !== batch)
      throw new ShapeError(`forward: the state has ${state.batch} rows, the input [${batch}, ${length}]`);
    if (into !== undefined && tapeIsOpen())
      throw new UnsupportedError("forward: `into` cannot be used while gradients are recorded", {
        hint: "take the returned state instead",
      });
    const plan = planSegments(segments, batch, length, state?.segments);
    const result = this.#run(tokens, plan, options);
    if (into !== undefined) into.assign(result.state);
    const next = into ?? result.state;
    if (logits === "none") return { ...result, state: next };
    const rows = logits === "all" ? result.hidden : lastRealTokens(result.hidden, plan);
    return { ...result, state: next, logits: linear(rows, this.headWeight, { out: this.#streamDType() }) };
  }

  #run(
    tokens: Tensor,
    plan: SegmentPlan,
    {
      state,
      into,
      hiddenStates = false,
      recompute = false,
      train = false,
      loads = false,
      dtype,
    }: MoEMambaForwardOptions,
  ): MoEMambaForwardResult {
    const { embeddings, layers, normF } = this.backbone;
    const { batch, length, marks, ids } = plan;
    const real = ids?.map((id) => (id === -1 ? 0 : 1));
    const upload = (x: Int32Array): Tensor => fromHost(this.backend, x, [batch, length], "int32");
    const call = {
      marks: marks === undefined ? undefined : upload(marks),
      real: real === undefined || real.every((r) => r === 1) ? undefined : upload(real),
      capacity: train ? this.#capacity(real?.reduce((n, r) => n + r, 0) ?? batch * length) : undefined,
      inPlace: into !== undefined && into === state,
      dtype,
      isForgetful: recompute === "cheap",
    };
    // The residual stream is float32 whatever the weights are.
    let stream: Stream = { residual: cast(embeddings.forward(tokens), this.#streamDType()), update: undefined }; // [batch, length, dModel]
    const next: LayerState[] = [];
    const seen: Tensor[] = [];
    const routings: Routing[] = [];
    layers.forEach((layer, i) => {
      const from = stream;
      // What a layer makes on the way goes before the next one begins.
      const run = () => scope(() => layer.forward(from, state?.layers[i], call));
      const { state: after, routing, ...out } = recompute === true ? checkpoint(run) : run();
      stream = out;
      next.push(after);
      routings.push(routing);
      if (hiddenStates && i < layers.length - 1) seen.push(streamValue(out));
    });
    if (hiddenStates && layers.length > 0) seen.push(streamValue(stream));
    const { y: hidden } = normalise(normF, stream, dtype);
    return {
      hidden,
      state: new MambaState(next, plan.last),
      ...(hiddenStates ? { hiddenStates: [...seen, hidden] } : {}),
      ...(train && routings.length > 0 ? { penalty: this.#penalty(routings) } : {}),
      ...(loads ? { loads: routings.map((r) => ({ counts: expertCounts(r), dropped: droppedChoices(r) })) } : {}),
    };
  }

  /** Choices each expert takes at most; at least one, where there are fewer tokens than experts. */
  #capacity(tokens: number): number {
    const { capacityFactor, topK, nExperts } = this.#config;
    return Math.max(1, Math.floor((capacityFactor * tokens * topK) / nExperts));
  }

  #penalty(routings: readonly Routing[]): Tensor {
    const { balanceCoef, zCoef } = this.#config;
    const mean = (parts: Tensor[], weight: number): Tensor =>
      mul(
        parts.reduce((a, b) => add(a, b)),
        weight / parts.length,
      );
    const balance = mean(
      routings.map((r) => loadBalancingLoss([r])),
      balanceCoef,
    );
    return zCoef === 0 ? balance : add(balance, mean(routings.map(routerZLoss), zCoef));
  }
}
