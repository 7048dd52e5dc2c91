/**
 * Vision Mamba (Vim): efficient visual representation learning with bidirectional state space models (Zhu et al., arXiv:2401.09417), as in
 * hustvl/Vim.
 *
 * paper   here          meaning
 * J       patches       grid[0] * grid[1], row by row
 * D       dModel        width of the residual stream
 * t_cls   clsToken      its final features are what the head sees; it stands in the middle, so that both directions have read half of the image before
 * E_pos   posEmbed      one position per token, the class token's included
 * L       nLayer
 *
 * Deviations from upstream: class tokens keep their positions when those are interpolated (see positions.ts).
 */
import { type Backend, type DType, InvalidArgumentError, ShapeError } from "@mamba-ts/backend";
import { makeNorm, normalise, type Stream } from "@mamba-ts/mamba";
import { type LayerNorm, type Linear, Module, Parameter, type RmsNorm, truncatedNormal } from "@mamba-ts/nn";
import {
  add,
  cast,
  div,
  expand,
  fromHost,
  linear,
  logSumExp,
  max,
  mean,
  mul,
  pick,
  Rng,
  reshape,
  scope,
  slice,
  sub,
  type Tensor,
} from "@mamba-ts/tensor";
import { type ResolvedVisionMambaConfig, resolveVisionMambaConfig, type VisionMambaConfig } from "./config.js";
import { VisionMixer } from "./mixer.js";
import { makeHead, PatchEmbed } from "./patches.js";
import { withClassTokens, withoutClassTokens } from "./positions.js";

/** x + mixer(norm(x)) */
export class VisionBlock extends Module {
  readonly norm: RmsNorm | LayerNorm;
  readonly mixer: VisionMixer;

  constructor(config: ResolvedVisionMambaConfig) {
    super();
    this.norm = makeNorm(config.mamba);
    this.mixer = new VisionMixer(config);
  }

  /** The stream [batch, tokens, dModel] after the layer. */
  forward(stream: Stream): Stream {
    const { y, sum } = normalise(this.norm, stream);
    return { residual: sum, update: this.mixer.forward(y) };
  }
}

export interface VisionForwardOptions {
  /** Training mode: layers are skipped by config.dropPath, which draws from this. */
  readonly train?: boolean;
  readonly rng?: Rng;
}

export interface VisionFeatures {
  /** [batch, tokens, dModel], after the final norm, class tokens among them. */
  readonly tokens: Tensor;
  /** [batch, rows, columns, dModel]: the patches' features where they lie in the image, for detection and segmentation. */
  readonly map: Tensor;
}

/** The image model. Making one takes no memory; `VisionMamba.create` draws weights, `loadVisionMamba` reads them. */
export class VisionMamba extends Module {
  readonly patchEmbed: PatchEmbed;
  readonly clsToken?: Parameter;
  readonly clsTokenHead?: Parameter;
  readonly clsTokenTail?: Parameter;
  readonly posEmbed?: Parameter;
  readonly layers: readonly VisionBlock[];
  readonly normF: RmsNorm | LayerNorm;
  readonly head?: Linear;
  readonly #config: ResolvedVisionMambaConfig;

  constructor(given: VisionMambaConfig = {}) {
    super();
    const config = resolveVisionMambaConfig(given);
    const { dModel, grid, classPositions, classToken, positions, mamba, nLayer } = config;
    const token = (count: number): Parameter =>
      new Parameter([1, count, dModel], { init: truncatedNormal(0.02), decay: false });
    this.patchEmbed = new PatchEmbed(config);
    if (classToken === "ends") {
      this.clsTokenHead = token(1);
      this.clsTokenTail = token(1);
    } else if (classToken !== "none") this.clsToken = token(1);
    if (positions) this.posEmbed = token(grid[0] * grid[1] + classPositions.length);
    this.layers = Array.from({ length: nLayer }, () => new VisionBlock(config));
    this.normF = makeNorm(mamba);
    const head = makeHead(config);
    if (head !== undefined) this.head = head;
    this.#config = config;
  }

  /** A model with random weights, drawn as upstream does; the same seed gives the same weights everywhere. */
  static create(
    config: VisionMambaConfig,
    {
      backend,
      seed = 0,
      dtype = "float32",
    }: { readonly backend: Backend; readonly seed?: number; readonly dtype?: DType },
  ): VisionMamba {
    return new VisionMamba(config).initialise(backend, new Rng(seed), dtype);
  }

  get config(): ResolvedVisionMambaConfig {
    return this.#config;
  }

  get backend(): Backend {
    return this.patchEmbed.proj.weight.value.backend;
  }

  /**
   * Class scores.
   * @param pixels - [batch, channels, height, width] of config.imageSize, normalised as in training (see `imagenet` of "./images")
   * @returns logits [batch, nClasses]; without a head the pooled features [batch, dModel]
   * Throws ShapeError for images of another size, InvalidArgumentError for drop path without `rng`.
   */
  forward(pixels: Tensor, options: VisionForwardOptions = {}): { readonly logits: Tensor } {
    return scope(() => ({ logits: this.#score(this.#tokens(pixels, options)) }));
  }

  /** Features of every token and patch. */
  forwardFeatures(pixels: Tensor, options: VisionForwardOptions = {}): VisionFeatures {
    return scope(() => {
      const tokens = this.#tokens(pixels, options);
      const { grid, classPositions, dModel } = this.#config;
      const map = withoutClassTokens(tokens, classPositions);
      return { tokens, map: reshape(map, [tokens.shape[0]!, grid[0], grid[1], dModel]) };
    });
  }

  #tokens(pixels: Tensor, { train = false, rng }: VisionForwardOptions): Tensor {
    const { channels, imageSize, classPositions, dropPath, nLayer, dModel } = this.#config;
    const [batch] = pixels.shape as [number];
    const want = [batch, channels, ...imageSize];
    if (pixels.shape.length !== 4 || want.some((n, i) => n !== pixels.shape[i]))
      throw new ShapeError(
        `forward: pixels [${pixels.shape.join(", ")}] are not [batch, ${want.slice(1).join(", ")}]`,
        {
          hint: "resize the images, or load the checkpoint with another imageSize, which interpolates its positions",
        },
      );
    if (train && dropPath > 0 && rng === undefined)
      throw new InvalidArgumentError("forward: dropPath needs rng in training");
    const type = this.patchEmbed.proj.weight.value.dtype === "float64" ? "float64" : "float32";
    const patches = this.patchEmbed.forward(cast(pixels, this.patchEmbed.proj.weight.value.dtype)); // [batch, patches, dModel]
    const classes = [this.clsToken, this.clsTokenHead, this.clsTokenTail].flatMap((p) =>
      p === undefined ? [] : [expand(p.value, [batch, 1, dModel])],
    );
    const tokens = withClassTokens(patches, classes, classPositions); // [batch, tokens, dModel]
    const placed = this.posEmbed === undefined ? tokens : add(tokens, this.posEmbed.value);
    let stream: Stream = { residual: cast(placed, type), update: undefined };
    for (const [i, layer] of this.layers.entries()) {
      const { residual, update } = layer.forward(stream);
      const rate = train ? (dropPath * i) / Math.max(1, nLayer - 1) : 0;
      stream = { residual, update: rate > 0 ? skipped(update!, rate, rng!) : update };
    }
    return normalise(this.normF, stream).y;
  }

  #score(tokens: Tensor): Tensor {
    const { classPositions, pool } = this.#config;
    const at = (t: number): Tensor => reshape(slice(tokens, 1, t, t + 1), [tokens.shape[0]!, tokens.shape[2]!]); // [batch, dModel]
    if (classPositions.length > 0) {
      const features = classPositions.map(at).reduce((a, b) => add(a, b));
      return this.#head(classPositions.length > 1 ? div(features, classPositions.length) : features);
    }
    if (pool === "max") return max(this.#head(tokens), 1);
    return this.#head(pool === "mean" ? mean(tokens, 1) : at(tokens.shape[1]! - 1));
  }

  #head(features: Tensor): Tensor {
    return this.head === undefined
      ? features
      : linear(features, this.head.weight.value, { bias: this.head.bias!.value });
  }
}

/** Drop path (arXiv:1603.09382): a sample's update is left out with probability `rate`, and the others' are scaled up. */
function skipped(update: Tensor, rate: number, rng: Rng): Tensor {
  const [batch] = update.shape as [number];
  const kept = Array.from(rng.uniform(batch), (u) => (u < rate ? 0 : 1 / (1 - rate)));
  const type = update.dtype === "float64" ? "float64" : "float32";
  return mul(update, fromHost(update.backend, kept, [batch, 1, 1], type));
}

/**
 * Mean cross-entropy of class scores.
 * @param logits - [batch, nClasses]  @param labels - int32 [batch]
 */
export function classificationLoss(logits: Tensor, labels: Tensor): Tensor {
  return scope(() => mean(sub(logSumExp(logits, 1), pick(logits, labels))));
}
