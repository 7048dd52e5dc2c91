/**
 * S4 (Gu, Goel and Ré, arXiv:2111.00396) and S4D (Gu et al., arXiv:2206.11893): a stack of state space layers with an encoder for values
 * or tokens and a head.
 *
 * paper   here       meaning
 * H       dModel     channels, each with state spaces of its own
 * N       dState     real size of a state; N / 2 complex modes are kept, each for itself and its conjugate
 * L       length     samples
 * Delta   dt         step size, one a head, learnt; times `deltas` where samples come at irregular times
 *
 * One forward serves training, whole sequences, chunks and single samples: they differ in the length and in whether there is a state.
 */
import { type Backend, DTypeError, InvalidArgumentError, ShapeError } from "@mamba-ts/backend";
import { Embedding, LayerNorm, Linear, Module } from "@mamba-ts/nn";
import { add, mean, Rng, reshape, scope, slice, type Tensor, type TensorOwner, tensorsSymbol } from "@mamba-ts/tensor";
import { BatchNorm } from "./batch-norm.js";
import { headWidth, type ResolvedS4Config, resolveConfig, type S4Config } from "./config.js";
import { dropout } from "./dropout.js";
import type { KernelStep } from "./kernel.js";
import { S4Layer, type S4LayerOptions, type S4Mode } from "./layer.js";
import { S4State } from "./state.js";

export interface S4ForwardOptions {
  /** `auto` by default. */
  readonly mode?: S4Mode;
  /** [batch, length]: each sample's step in units of the learnt ones; 1 by default. S4D with zero-order hold only. */
  readonly deltas?: Tensor | undefined;
  /** The state to go on from; zeros by default. */
  readonly state?: S4State | undefined;
  /** Whether to return the state; true if `state` is given. */
  readonly returnState?: boolean;
  /** The recurrences, made once by `makeSteps`: without them every call makes its own. */
  readonly steps?: S4Steps | undefined;
  readonly train?: boolean;
  /** Where dropout draws from in training; none is applied without. */
  readonly rng?: Rng | undefined;
}

export interface S4ForwardResult {
  /** See `S4Head`. Pooling is over the samples of this call. */
  readonly output: Tensor;
  /** [batch, length, dModel], before the head. */
  readonly hidden: Tensor;
  readonly state: S4State | undefined;
}

/** The recurrences of all layers, made from the weights as they are now. */
export class S4Steps implements TensorOwner, Disposable {
  constructor(readonly layers: readonly KernelStep[]) {}

  [tensorsSymbol](): Tensor[] {
    return this.layers.flatMap((s) =>
      s.form === "dense" ? [s.A, s.B, s.rows] : [s.w.re, s.w.im, s.b.re, s.b.im, s.rows],
    );
  }

  [Symbol.dispose](): void {
    for (const t of this[tensorsSymbol]()) t.dispose();
  }
}

/** Encoder, residual S4 layers with their norms, decoder: the model of the long range arena's experiments. */
export class S4Model extends Module {
  readonly encoder: Linear | Embedding;
  readonly s4Layers: readonly S4Layer[];
  readonly norms: readonly (LayerNorm | BatchNorm)[];
  readonly decoder: Linear;
  readonly #config: ResolvedS4Config;

  constructor(config: S4Config) {
    super();
    this.#config = resolveConfig(config);
    const { dModel, nLayer, dInput, vocabSize, norm, head } = this.#config;
    this.encoder =
      vocabSize === undefined ? new Linear(dInput!, dModel, { bias: true }) : new Embedding(vocabSize, dModel);
    this.s4Layers = Array.from({ length: nLayer }, () => new S4Layer(this.#config));
    this.norms =
      norm === "none"
        ? []
        : this.s4Layers.map(() => (norm === "layer" ? new LayerNorm(dModel, 1e-5) : new BatchNorm(dModel)));
    this.decoder = new Linear(dModel, headWidth(head), { bias: true });
  }

  /** A model with random weights; the same seed gives the same weights everywhere. */
  static create(
    config: S4Config,
    {
      backend,
      seed = 0,
      dtype = "float32",
    }: { readonly backend: Backend; readonly seed?: number; readonly dtype?: "float32" | "float64" },
  ): S4Model {
    const model = new S4Model(config).initialise(backend, new Rng(seed), dtype);
    model.setKernelLength(model.config.length);
    return model;
  }

  get config(): ResolvedS4Config {
    return this.#config;
  }

  get backend(): Backend {
    return this.decoder.weight.value.backend;
  }

  /** Makes kernels of S4 (`dplr`) at least this long; S4D's have any length. Not while gradients are recorded. */
  setKernelLength(length: number): void {
    for (const { layer } of this.s4Layers) layer.kernel.ensureLength(length);
  }

  /** The recurrences of all layers, for streaming; the caller disposes them, and makes new ones when the weights have changed. */
  makeSteps(): S4Steps {
    return scope(() => new S4Steps(this.s4Layers.map(({ layer }) => layer.kernel.step())));
  }

  /**
   * @param input - [batch, length, dInput], or int32 [batch, length] of a model of tokens. A length of 0 gives a state as it was, and no
   *   pooled output (InvalidArgumentError). NaN in a sequence makes its outputs NaN.
   */
  forward(input: Tensor, options: S4ForwardOptions = {}): S4ForwardResult {
    return scope(() => {
      const { train = false, rng, state, steps, deltas } = options;
      this.#check(input, deltas, state);
      const { prenorm, dropout: share } = this.#config;
      let x = this.encoder.forward(input); // [batch, length, dModel]
      const states: Tensor[] = [];
      const { returnState = state !== undefined } = options;
      for (const [i, layer] of this.s4Layers.entries()) {
        const norm = (t: Tensor): Tensor => this.#norm(i, t, train);
        const layerOptions: S4LayerOptions = {
          ...options,
          state: state?.layers[i],
          step: steps?.layers[i],
          returnState,
        };
        const { y, state: next } = layer.forward(prenorm ? norm(x) : x, layerOptions);
        const sum = add(x, dropout(y, share, train ? rng : undefined));
        x = prenorm ? sum : norm(sum);
        if (next !== undefined) states.push(next);
      }
      return { output: this.#head(x), hidden: x, state: returnState ? new S4State(states) : undefined };
    });
  }

  #check(input: Tensor, deltas: Tensor | undefined, state: S4State | undefined): void {
    const { dInput, vocabSize, nLayer, dModel, dState } = this.#config;
    const want = dInput === undefined ? "[batch, length]" : `[batch, length, ${dInput}]`;
    if (input.shape.length !== (dInput === undefined ? 2 : 3) || (dInput !== undefined && input.shape[2] !== dInput))
      throw new ShapeError(`S4: the input is [${input.shape.join(", ")}], not ${want}`);
    if ((input.dtype === "int32") !== (vocabSize !== undefined))
      throw new DTypeError(
        `S4: the input is ${input.dtype}, the model reads ${vocabSize === undefined ? "values" : "tokens"}`,
      );
    const [batch, length] = input.shape as [number, number];
    if (deltas !== undefined && (deltas.shape[0] !== batch || deltas.shape[1] !== length || deltas.shape.length !== 2))
      throw new ShapeError(`S4: deltas are [${deltas.shape.join(", ")}], not [${batch}, ${length}]`);
    if (state === undefined) return;
    const shape = state.layers[0]?.shape ?? [batch, dModel, dState];
    if (state.layers.length !== nLayer || shape[0] !== batch || shape[1] !== dModel || shape[2] !== dState)
      throw new ShapeError(
        `S4: the state has ${state.layers.length} layers of [${shape.join(", ")}], not ${nLayer} of [${batch}, ${dModel}, ${dState}]`,
      );
  }

  #norm(i: number, x: Tensor, train: boolean): Tensor {
    const norm = this.norms[i];
    if (norm === undefined) return x;
    return norm instanceof LayerNorm ? norm.forward(x).y : norm.forward(x, train);
  }

  #head(x: Tensor): Tensor {
    const { head } = this.#config;
    const [batch, length, dModel] = x.shape as [number, number, number];
    if (head.kind === "autoregressive") return this.decoder.forward(x); // [batch, length, outputs]
    if (length === 0)
      throw new InvalidArgumentError(`S4: a sequence of length 0 has nothing to make a ${head.kind} of`);
    const pool = head.kind === "forecast" ? "last" : (head.pool ?? "mean");
    const pooled = pool === "mean" ? mean(x, 1) : reshape(slice(x, 1, length - 1), [batch, dModel]);
    const out = this.decoder.forward(pooled); // [batch, width]
    return head.kind === "forecast" ? reshape(out, [batch, head.horizon, head.outputs]) : out;
  }
}

/**
 * Whether a parameter belongs to the state spaces (A, B, P, step sizes), which the reference trains at a rate of their own, at most 0.001,
 * and without weight decay.
 */
export function isStateParameter(name: string): boolean {
  return /(^|\.)kernel\.(A_real|A_imag|B|P|inv_dt)$/.test(name);
}
