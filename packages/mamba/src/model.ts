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
import { type Backend, type DType, ShapeError, UnsupportedError } from "@mamba-ts/backend";
import { Embedding, type LayerNorm, Linear, Module, type RmsNorm } from "@mamba-ts/nn";
import {
  cast,
  checkpoint,
  concat,
  fromHost,
  linear,
  Rng,
  scope,
  slice,
  type Tensor,
  tapeIsOpen,
} from "@mamba-ts/tensor";
import { MambaBlock, makeNorm, normalise, type Stream, streamValue } from "./block.js";
import { type MambaConfig, type ResolvedMambaConfig, resolveConfig } from "./config.js";
import type { ForwardOptions, ForwardResult, SegmentState } from "./forward.js";
import { lastRealTokens, planSegments, type SegmentPlan, segmentEnds } from "./segments.js";
import { type LayerState, MambaState } from "./state.js";
import { type TokenInput, tokenTensor } from "./tokens.js";

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

/** The language model. Making one takes no memory; `Mamba.create` draws weights, `loadMamba` reads them. */
export class Mamba extends Module {
  /** A step of one token launches the same work whatever has been read, so that it can be captured. */
  readonly hasFixedStep = true;
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
    return MambaState.create(this.backend, this.#config, batch, this.#streamDType());
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
    return {
      ...result,
      state: into ?? result.state,
      logits: linear(rows, this.headWeight, { out: this.#streamDType() }),
    };
  }

  #run(
    tokens: Tensor,
    state: MambaState | undefined,
    plan: SegmentPlan,
    { into, hiddenStates = false, recompute = false, dtype }: ForwardOptions,
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
      // What a layer makes on the way goes before the next one begins.
      const run = () =>
        scope(() =>
          layer.forward(before, state?.layers[i], marks, inPlace, dtype, recompute === "cheap", layers[i + 1]?.norm),
        );
      const { state: after, ...out } = recompute === true ? checkpoint(run) : run();
      stream = out;
      next.push(after);
      if (hiddenStates && i < layers.length - 1) seen.push(streamValue(out));
    });
    if (hiddenStates && layers.length > 0) seen.push(streamValue(stream));
    const { y: hidden } = normalise(normF, stream, dtype);
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

function refuseIntoOnTape(): void {
  if (tapeIsOpen())
    throw new UnsupportedError("forward: `into` cannot be used while gradients are recorded", {
      hint: "take the returned state instead",
    });
}
