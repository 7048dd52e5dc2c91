import { InvalidArgumentError, ShapeError, UnsupportedError } from "@mamba-ts/backend";
import { Linear, Module, normal, Parameter } from "@mamba-ts/nn";
import {
  add,
  concat,
  fastFftLength,
  fftConvolution,
  flip,
  gelu,
  glu,
  mul,
  ones,
  pad,
  permute,
  type Rng,
  reshape,
  silu,
  slice,
  type Tensor,
  unsqueeze,
  zeros,
} from "@mamba-ts/tensor";
import type { ResolvedS4LayerConfig } from "./config.js";
import { dropout } from "./dropout.js";
import { advance, type KernelStep, S4Kernel } from "./kernel.js";

/** How a sequence is gone through; all give the same numbers. */
export type S4Mode =
  /** Kernel and Fourier transforms: all samples at once, for training and long pieces. */
  | "convolution"
  /** Sample by sample, for streaming. */
  | "recurrence"
  /** Parallel scan; S4D with zero-order hold only. */
  | "scan"
  /** `scan` if there are steps, `recurrence` for a few samples, else `convolution`. */
  | "auto";

export interface S4LayerOptions {
  readonly mode?: S4Mode;
  /**
   * [batch, length]: each sample's step in units of the layer's own; 1 by default. S4D with zero-order hold only. They lie on the device and are not
   * looked at: 0 leaves the state as it was, a negative step is outside the definition (`stepsFromTimes` of @mamba-ts/ssm refuses them).
   */
  readonly deltas?: Tensor | undefined;
  /** [batch, dModel, dState]: the state to go on from; zeros by default. */
  readonly state?: Tensor | undefined;
  /** Whether the state after the last sample is wanted; true if `state` is given. A convolution without it does less. */
  readonly returnState?: boolean;
  /** The recurrence, if it was made before. */
  readonly step?: KernelStep | undefined;
  /** Training: batch norm uses the batch, and dropout draws from `rng`. */
  readonly train?: boolean;
  readonly rng?: Rng | undefined;
}

export interface S4LayerResult {
  /** [batch, length, dModel] */
  readonly y: Tensor;
  readonly state: Tensor | undefined;
}

/** Up to this length `auto` steps: fewer samples than the transforms have stages. */
const STEPS = 4;

/** The state spaces themselves: y = K * u + D u. */
export class S4Convolution extends Module {
  /** [channels, dModel] */
  readonly D: Parameter;
  readonly kernel: S4Kernel;
  readonly #config: ResolvedS4LayerConfig;

  constructor(config: ResolvedS4LayerConfig) {
    super();
    this.D = new Parameter([config.channels, config.dModel], { init: normal(1), decay: false, keepFloat32: true });
    this.kernel = new S4Kernel(config);
    this.#config = config;
  }

  /** @param x - [batch, length, dModel]  @returns y [batch, length, channels * dModel] */
  forward(x: Tensor, options: S4LayerOptions): S4LayerResult {
    const { dModel, channels, bidirectional } = this.#config;
    const [batch, length] = x.shape as [number, number];
    const { state, returnState = state !== undefined, deltas } = options;
    const mode = this.#mode(length, options);
    if (bidirectional && (mode !== "convolution" || returnState))
      throw new UnsupportedError("S4: a bidirectional layer has no state: it reads whole sequences, by convolution");
    if (length === 0)
      return {
        y: zeros(x.backend, [batch, 0, channels * dModel], x.dtype),
        state: returnState ? (state ?? this.#fresh(x)) : undefined,
      };
    if (mode === "convolution") return this.#convolve(x, state, returnState, options.step);
    const u = permute(x, [0, 2, 1]); // [batch, dModel, length]
    const { y, state: next } =
      mode === "scan"
        ? this.kernel.scan(u, deltas ?? ones(x.backend, [batch, length], x.dtype), state)
        : this.#steps(u, state ?? this.#fresh(x), options.step ?? this.kernel.step());
    const skipped = add(y, mul(unsqueeze(u, 1), unsqueeze(this.D.value, 2))); // [batch, channels, dModel, length]
    return {
      y: reshape(permute(skipped, [0, 3, 1, 2]), [batch, length, channels * dModel]),
      state: returnState ? next : undefined,
    };
  }

  #mode(length: number, { mode = "auto", deltas }: S4LayerOptions): Exclude<S4Mode, "auto"> {
    if (deltas !== undefined && mode !== "scan" && mode !== "auto")
      throw new InvalidArgumentError(`S4: steps of their own for samples need a scan, not mode "${mode}"`);
    if (mode !== "auto") return mode;
    if (deltas !== undefined) return "scan";
    return length <= STEPS && !this.#config.bidirectional ? "recurrence" : "convolution";
  }

  #fresh(x: Tensor): Tensor {
    const { dModel, dState } = this.#config;
    return zeros(x.backend, [x.shape[0]!, dModel, dState], x.dtype);
  }

  #convolve(x: Tensor, state: Tensor | undefined, returnState: boolean, step: KernelStep | undefined): S4LayerResult {
    const { channels, bidirectional, dModel } = this.#config;
    const [batch, length] = x.shape as [number, number];
    const whole = [batch, length, channels * dModel];
    const y = reshape(
      fftConvolution(x, this.#taps(length), bidirectional ? { size: fastFftLength(2 * length) } : {}),
      whole,
    );
    if (!returnState) return { y, state: undefined };
    const u = permute(x, [0, 2, 1]); // [batch, dModel, length]
    const { response, state: next } = this.kernel.carry(step ?? this.kernel.step(), u, state);
    if (response === undefined) return { y, state: next };
    return { y: add(y, reshape(permute(response, [0, 3, 1, 2]), whole)), state: next };
  }

  /** The kernels with D on the present sample, as `fftConvolution` takes them: [channels, dModel, taps]. */
  #taps(length: number): Tensor {
    const { channels, bidirectional } = this.#config;
    const kernels = this.kernel.kernel(length);
    const skip = (k: Tensor): Tensor => add(k, pad(unsqueeze(this.D.value, 2), 2, 0, k.shape[2]! - 1));
    if (!bidirectional) return skip(kernels);
    const ahead = flip(slice(kernels, 0, channels), 2); // of samples -length … -1
    const between = fastFftLength(2 * length) - 2 * length;
    return skip(concat([pad(slice(kernels, 0, 0, channels), 2, 0, between), ahead], 2));
  }

  #steps(u: Tensor, state: Tensor, step: KernelStep) {
    const outputs: Tensor[] = [];
    let x = state;
    for (let t = 0; t < u.shape[2]!; t++) {
      const sample = reshape(slice(u, 2, t, t + 1), u.shape.slice(0, 2)); // [batch, dModel]
      const result = advance(step, sample, x);
      outputs.push(unsqueeze(result.y, 3)); // [batch, channels, dModel, 1]
      x = result.state;
    }
    return { y: concat(outputs, 3), state: x };
  }
}

/** An S4 or S4D layer: state spaces, activation, and a projection that mixes the heads (arXiv:2111.00396, appendix D.2). */
export class S4Layer extends Module {
  readonly layer: S4Convolution;
  /** The projection, as the one element that checkpoints call `output_linear.0`. */
  readonly outputLinear: readonly Linear[];
  readonly #config: ResolvedS4LayerConfig;

  constructor(config: ResolvedS4LayerConfig) {
    super();
    const { dModel, channels, finalActivation } = config;
    this.layer = new S4Convolution(config);
    this.outputLinear = [new Linear(channels * dModel, (finalActivation === "glu" ? 2 : 1) * dModel, { bias: true })];
    this.#config = config;
  }

  /** @param x - [batch, length, dModel]  @returns the same shape, and the state if it is wanted */
  forward(x: Tensor, options: S4LayerOptions = {}): S4LayerResult {
    const { dModel, activation, finalActivation, dropout: share } = this.#config;
    if (x.shape.length !== 3 || x.shape[2] !== dModel)
      throw new ShapeError(`S4: x is [${x.shape.join(", ")}], not [batch, length, ${dModel}]`);
    const { y, state } = this.layer.forward(x, options);
    const active = { gelu, silu, none: (t: Tensor) => t }[activation](y);
    const dropped = dropout(active, share, options.train === true ? options.rng : undefined);
    const out = this.outputLinear[0]!.forward(dropped);
    if (finalActivation === "none") return { y: out, state };
    return { y: glu(out), state };
  }
}
