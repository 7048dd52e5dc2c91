import { constant, type Initialiser, Linear, Module, Parameter, truncatedNormal } from "@mamba-ts/nn";
import { fromHost, gather, linear, permute, reshape, type Tensor } from "@mamba-ts/tensor";
import type { ResolvedVisionMambaConfig } from "./config.js";

/** Normal with the variance 1 / fanIn after truncation at two standard deviations (LeCun). */
const lecunNormal = (fanIn: number): Initialiser => truncatedNormal(Math.sqrt(1 / fanIn) / 0.87962566103423978);

/** A convolution whose kernel is a patch: [batch, channels, height, width] to [batch, patches, dModel], row by row. */
class Projection extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;
  constructor(dModel: number, channels: number, patchSize: number) {
    super();
    const init = lecunNormal(channels * patchSize * patchSize);
    this.weight = new Parameter([dModel, channels, patchSize, patchSize], { init });
    this.bias = new Parameter([dModel], { init: constant(0), decay: false, keepFloat32: true });
  }
}

/** Cuts images into patches, which may overlap, and projects each of them. */
export class PatchEmbed extends Module {
  readonly proj: Projection;
  readonly #config: ResolvedVisionMambaConfig;

  constructor(config: ResolvedVisionMambaConfig) {
    super();
    this.proj = new Projection(config.dModel, config.channels, config.patchSize);
    this.#config = config;
  }

  /** @param pixels - [batch, channels, height, width]  @returns [batch, patches, dModel] */
  forward(pixels: Tensor): Tensor {
    const { patchSize, channels, dModel, imageSize, grid } = this.#config;
    const [batch] = pixels.shape as [number];
    const [patches, area] = [grid[0] * grid[1], patchSize * patchSize];
    const places = fromHost(pixels.backend, pixelsOfPatches(this.#config), [patches, area], "int32");
    const flat = reshape(pixels, [batch, channels, imageSize[0] * imageSize[1]]);
    const cut = permute(gather(flat, places, 2), [0, 2, 1, 3]); // [batch, patches, channels, area]
    const weight = reshape(this.proj.weight.value, [dModel, channels * area]);
    return linear(reshape(cut, [batch, patches, channels * area]), weight, { bias: this.proj.bias.value }); // [batch, patches, dModel]
  }
}

/** For every patch, where its pixels lie in an image. */
function pixelsOfPatches({ imageSize, patchSize, stride, grid }: ResolvedVisionMambaConfig): Int32Array {
  const out = new Int32Array(grid[0] * grid[1] * patchSize * patchSize);
  let i = 0;
  for (let row = 0; row < grid[0]; row++)
    for (let column = 0; column < grid[1]; column++)
      for (let y = 0; y < patchSize; y++)
        for (let x = 0; x < patchSize; x++) out[i++] = (row * stride + y) * imageSize[1] + column * stride + x;
  return out;
}

/** A head that was left out has no parameters. */
export function makeHead({ dModel, nClasses }: ResolvedVisionMambaConfig): Linear | undefined {
  return nClasses === 0 ? undefined : new Linear(dModel, nClasses, { bias: true, init: truncatedNormal(0.02) });
}
