/**
 * Jamba: a hybrid of Transformer and Mamba layers with mixtures of experts (Lieber et al., arXiv:2403.19887), as in transformers.
 *
 * paper        here                       meaning
 * l            nLayer                     layers, each a mixer and a feed-forward part, both with a norm before and a residual around
 * a : m        attnLayerPeriod, -Offset   one attention layer in a period, Mamba in the others
 * e            expertLayerPeriod, -Offset one layer with experts in a period, dense SwiGLU in the others
 * n, K         nExperts, topK             experts in all, and per token; their probabilities are used as they are, never renormalised
 *
 * There are no positions anywhere: the Mamba layers know the order. One forward serves training, prefill in chunks of any size, and decoding.
 * Deviations from upstream: none in what is computed; packed sequences and padding anywhere are possible here.
 */
import {
  type Backend,
  type DType,
  type FloatDType,
  InvalidArgumentError,
  ShapeError,
  UnsupportedError,
} from "@mamba-ts/backend";
import {
  type LayerState,
  lastRealTokens,
  MambaMixer,
  normalise,
  planSegments,
  residualMamba,
  type SegmentPlan,
  type Stream,
  streamValue,
  type TokenInput,
  tokenTensor,
} from "@mamba-ts/mamba";
import {
  Attention,
  Embedding,
  type KvCache,
  Linear,
  loadBalancingLoss,
  Module,
  MoE,
  normal,
  RmsNorm,
  type Routing,
} from "@mamba-ts/nn";
import {
  cast,
  checkpoint,
  fromHost,
  keep,
  linear,
  mul,
  Rng,
  scope,
  silu,
  slice,
  type Tensor,
  tapeIsOpen,
  zeros,
} from "@mamba-ts/tensor";
import { type JambaConfig, type ResolvedJambaConfig, resolveJambaConfig } from "./config.js";
import type { JambaForwardOptions, JambaForwardResult } from "./forward.js";
import { advanceRuns, attentionSegments, realTokens } from "./runs.js";
import { isCache, JambaState, type LayerMemory } from "./state.js";

/** Dense feed-forward layer, down (silu(gate x) * up x) (arXiv:2002.05202). */
export class SwiGlu extends Module {
  readonly gateProj: Linear;
  readonly upProj: Linear;
  readonly downProj: Linear;

  constructor({ dModel, dFeedForward, initStd }: ResolvedJambaConfig) {
    super();
    const init = normal(initStd);
    this.gateProj = new Linear(dModel, dFeedForward, { init });
    this.upProj = new Linear(dModel, dFeedForward, { init });
    this.downProj = new Linear(dFeedForward, dModel, { init });
  }

  /** @param x - [..., dModel]  @returns the same shape */
  forward(x: Tensor): Tensor {
    return this.downProj.forward(mul(silu(this.gateProj.forward(x)), this.upProj.forward(x)));
  }
}

/** What all layers need to know of the tokens of one call. */
interface Call {
  /** int32 [batch, length], see `segmentMarks`. */
  readonly marks: Tensor | undefined;
  /** int32 [batch, length], 0 for padding. */
  readonly real: Tensor | undefined;
  readonly segments: { readonly query: Tensor; readonly key: Tensor } | undefined;
  readonly inPlace: boolean;
  readonly dtype: FloatDType | undefined;
  readonly isForgetful: boolean;
}

/** h += mixer(norm(h)); h += feedForward(norm(h)) */
export class JambaLayer extends Module {
  readonly inputLayernorm: RmsNorm;
  /** One of the two. */
  readonly mamba?: MambaMixer;
  readonly selfAttn?: Attention;
  readonly feedForward: SwiGlu | MoE;
  readonly preFfLayernorm: RmsNorm;
  readonly #config: ResolvedJambaConfig;

  constructor(config: ResolvedJambaConfig, index: number) {
    super();
    const { dModel, nHeads, nKvHeads, normEps, initStd, nExperts, topK, dFeedForward } = config;
    const init = normal(initStd);
    this.inputLayernorm = new RmsNorm(dModel, normEps);
    if (config.layerTypes[index] === "mamba") this.mamba = new MambaMixer(config.mamba);
    else this.selfAttn = new Attention({ dModel, heads: nHeads, kvHeads: nKvHeads, init });
    this.feedForward = config.expertLayers[index]
      ? new MoE({
          width: dModel,
          hidden: dFeedForward,
          experts: nExperts,
          topK,
          init,
          downInit: init,
          routerInit: init,
        })
      : new SwiGlu(config);
    this.preFfLayernorm = new RmsNorm(dModel, normEps);
    this.#config = config;
  }

  /** The stream [batch, length, dModel] after attention or Mamba and after the feed-forward part, what the layer remembers, and how its router chose. */
  forward(
    stream: Stream,
    memory: LayerMemory | undefined,
    call: Call,
  ): Stream & { readonly memory: LayerMemory; readonly routing: Routing | undefined } {
    const { memory: next, ...mixed } = this.#mix(stream, memory, call);
    const { y, sum } = normalise(this.preFfLayernorm, mixed, call.dtype); // [batch, length, dModel]
    if (!(this.feedForward instanceof MoE))
      return { residual: sum, update: this.feedForward.forward(y), memory: next, routing: undefined };
    const { y: update, routing } = this.feedForward.forward(y, { real: call.real });
    return { residual: sum, update, memory: next, routing };
  }

  #mix(stream: Stream, memory: LayerMemory | undefined, call: Call): Stream & { readonly memory: LayerMemory } {
    const { mamba: mixer, selfAttn, inputLayernorm: norm } = this;
    if (mixer !== undefined) {
      const parts = { norm, mixer, config: this.#config.mamba };
      const { state, ...out } = residualMamba(
        parts,
        stream,
        memory as LayerState | undefined,
        call.marks,
        call.inPlace,
        call.dtype,
        call.isForgetful,
      );
      return { ...out, memory: state };
    }
    const { y, sum } = normalise(norm, stream, call.dtype);
    const cache = memory as KvCache | undefined;
    const { out, cache: next } = selfAttn!.forward(y, { cache, inPlace: call.inPlace, segments: call.segments });
    return { residual: sum, update: out, memory: next };
  }
}

/** Embedding, layers and the final norm, under the name they have in checkpoints. */
export class JambaBackbone extends Module {
  readonly embedTokens: Embedding;
  readonly layers: readonly JambaLayer[];
  readonly finalLayernorm: RmsNorm;

  constructor(config: ResolvedJambaConfig) {
    super();
    this.embedTokens = new Embedding(config.vocabSize, config.dModel, normal(config.initStd));
    this.layers = config.layerTypes.map((_, i) => new JambaLayer(config, i));
    this.finalLayernorm = new RmsNorm(config.dModel, config.normEps);
  }
}

/** The language model. Making one takes no memory; `Jamba.create` draws weights, `loadJamba` reads them. */
export class Jamba extends Module {
  readonly model: JambaBackbone;
  readonly lmHead?: Linear;
  readonly #config: ResolvedJambaConfig;

  constructor(config: JambaConfig) {
    super();
    this.#config = resolveJambaConfig(config);
    const { tieEmbeddings, dModel, vocabSize, initStd } = this.#config;
    this.model = new JambaBackbone(this.#config);
    if (!tieEmbeddings) this.lmHead = new Linear(dModel, vocabSize, { init: normal(initStd) });
  }

  /** A model with random weights; the same seed gives the same weights everywhere. */
  static create(
    config: JambaConfig,
    {
      backend,
      seed = 0,
      dtype = "float32",
    }: { readonly backend: Backend; readonly seed?: number; readonly dtype?: DType },
  ): Jamba {
    return new Jamba(config).initialise(backend, new Rng(seed), dtype);
  }

  get config(): ResolvedJambaConfig {
    return this.#config;
  }

  get backend(): Backend {
    return this.model.embedTokens.weight.value.backend;
  }

  /** The head's weight [vocabSize, dModel], for losses that never hold all logits. */
  get headWeight(): Tensor {
    return (this.lmHead ?? this.model.embedTokens).weight.value;
  }

  /** Parameters that one token meets: all but the experts that are not chosen. */
  get activeParameterCount(): number {
    const { nExperts, topK, expertLayers, dModel, dFeedForward } = this.#config;
    const idle = expertLayers.filter(Boolean).length * Math.max(0, nExperts - topK) * 3 * dModel * dFeedForward;
    return this.parameterCount - idle;
  }

  /** Bytes a state takes after `length` tokens of `batch` sequences, before any of them is taken. */
  stateBytes(batch: number, length: number): number {
    const { layerTypes, mamba, nKvHeads, dModel, nHeads } = this.#config;
    const each = layerTypes.map((type) =>
      type === "mamba" ? mamba.dInner * (mamba.dConv - 1 + mamba.dState) : 2 * length * nKvHeads * (dModel / nHeads),
    );
    const width = this.model.embedTokens.weight.isMaterialised && this.#streamDType() === "float64" ? 8 : 4;
    return batch * width * each.reduce((a, b) => a + b, 0);
  }

  /**
   * A fresh state for `batch` sequences, owned by the caller.
   * @param capacity - tokens to take memory for at once; the caches grow beyond it as they must
   * Throws InvalidArgumentError for more tokens than the model holds, OutOfMemoryError where there is no room for them.
   */
  createState(batch: number, { capacity = 0 }: { readonly capacity?: number } = {}): JambaState {
    const { mamba, maxLength } = this.#config;
    const { backend } = this;
    if (!Number.isInteger(capacity) || capacity < 0 || capacity > maxLength)
      throw new InvalidArgumentError(`state: a capacity of ${capacity} tokens; this model holds at most ${maxLength}`);
    const type = this.#streamDType();
    // In a scope until all of it is there: where memory runs out, what was taken is given back.
    const layers = scope(() =>
      this.model.layers.map((layer): LayerMemory => {
        if (layer.selfAttn !== undefined) return layer.selfAttn.createCache(backend, batch, capacity, type);
        return {
          conv: zeros(backend, [batch, mamba.dConv - 1, mamba.dInner], type),
          ssm: zeros(backend, [batch, mamba.dInner, mamba.dState], type),
        };
      }),
    );
    for (const memory of layers)
      for (const t of isCache(memory) ? [memory.k, memory.v] : [memory.conv, memory.ssm]) keep(t);
    return new JambaState(layers, new Int32Array(batch).fill(-1), 0, {
      current: new Int32Array(batch),
      tokens: undefined,
    });
  }

  /** The inverse of a state's `save`. */
  restoreState(bytes: Uint8Array): Promise<JambaState> {
    return JambaState.restore(bytes, { backend: this.backend, config: this.#config });
  }

  #streamDType(): "float32" | "float64" {
    return this.model.embedTokens.weight.value.dtype === "float64" ? "float64" : "float32";
  }

  /**
   * The only way through the model.
   * @param input - token ids [batch, length]: rows, or an int32 tensor (whose ids are not checked: one outside the vocabulary reads as zeros)
   * Throws InvalidArgumentError naming a token outside the vocabulary or a length beyond config.maxLength, ShapeError for a state or
   * segments of another batch.
   */
  forward(input: TokenInput, options: JambaForwardOptions = {}): JambaForwardResult {
    return scope(() => this.#forward(input, options) as never);
  }

  #forward(input: TokenInput, options: JambaForwardOptions): JambaForwardResult {
    const { state, into, segments, logits = "all" } = options;
    const tokens = tokenTensor(this.backend, input, this.#config.vocabSize); // [batch, length]
    const [batch, length] = tokens.shape as [number, number];
    if (state !== undefined && state.batch !== batch)
      throw new ShapeError(`forward: the state has ${state.batch} rows, the input [${batch}, ${length}]`);
    if (into !== undefined && tapeIsOpen())
      throw new UnsupportedError("forward: `into` cannot be used while gradients are recorded", {
        hint: "take the returned state instead",
      });
    const total = (state?.length ?? 0) + length;
    if (total > this.#config.maxLength)
      throw new InvalidArgumentError(`forward: ${total} tokens; this model holds at most ${this.#config.maxLength}`, {
        hint: "the limit is config.maxLength (max_position_embeddings)",
      });
    const plan = planSegments(segments, batch, length, state?.segments);
    const result = this.#run(tokens, plan, options);
    if (into !== undefined) into.assign(result.state);
    const next = into ?? result.state;
    if (logits === "none") return { ...result, state: next };
    const { hidden } = result;
    const rows =
      logits === "last"
        ? lastRealTokens(hidden, plan)
        : slice(hidden, 1, logits === "all" ? 0 : Math.max(0, length - logits), length);
    return { ...result, state: next, logits: linear(rows, this.headWeight, { out: this.#streamDType() }) };
  }

  #run(
    tokens: Tensor,
    plan: SegmentPlan,
    { state, into, hiddenStates = false, recompute = false, train = false, dtype }: JambaForwardOptions,
  ): JambaForwardResult {
    const { backend } = this;
    const { batch, length, marks } = plan;
    const before = state?.length ?? 0;
    const runs = advanceRuns(plan, state?.runs ?? { current: new Int32Array(batch), tokens: undefined }, before);
    const call: Call = {
      marks: marks === undefined ? undefined : fromHost(backend, marks, [batch, length], "int32"),
      real: realTokens(backend, plan),
      segments: attentionSegments(backend, runs, batch, before + length, length),
      inPlace: into !== undefined && into === state,
      dtype,
      isForgetful: recompute === "cheap",
    };
    // The residual stream is float32 whatever the weights are.
    let stream: Stream = {
      residual: cast(this.model.embedTokens.forward(tokens), this.#streamDType()), // [batch, length, dModel]
      update: undefined,
    };
    const next: LayerMemory[] = [];
    const seen: Tensor[] = [];
    const routings: Routing[] = [];
    this.model.layers.forEach((layer, i) => {
      const from = stream;
      if (hiddenStates) seen.push(streamValue(from));
      // What a layer makes on the way goes before the next one begins.
      const run = () => scope(() => layer.forward(from, state?.layers[i], call));
      const { memory, routing, ...out } = recompute === true ? checkpoint(run) : run();
      stream = out;
      next.push(memory);
      if (routing !== undefined) routings.push(routing);
    });
    const { y: hidden } = normalise(this.model.finalLayernorm, stream, dtype);
    const { auxLoss: wanted, auxLossCoef } = this.#config;
    const auxLoss = train && wanted && routings.length > 0 ? loadBalancingLoss(routings) : undefined;
    return {
      hidden,
      state: new JambaState(next, plan.last, before + length, runs),
      ...(hiddenStates ? { hiddenStates: [...seen, hidden] } : {}),
      ...(auxLoss === undefined ? {} : { auxLoss, penalty: mul(auxLoss, auxLossCoef) }),
    };
  }
}
