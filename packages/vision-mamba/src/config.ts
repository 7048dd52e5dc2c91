import { ConfigError } from "@mamba-ts/backend";
import { type ResolvedMambaConfig, resolveConfig } from "@mamba-ts/mamba";

/** Where the class token stands among the patches: one in the middle or before them, one at either end, or none. */
export type ClassToken = "middle" | "head" | "ends" | "none";

/** What a Vision Mamba is made of. All have defaults: those of the published Vim-tiny. */
export interface VisionMambaConfig {
  /** Height and width in pixels. */
  readonly imageSize?: number | readonly [number, number];
  readonly patchSize?: number;
  /** Pixels from one patch to the next; patchSize by default. Smaller ones overlap. */
  readonly stride?: number;
  readonly channels?: number;
  /** 0: no head, the pooled features are the result. */
  readonly nClasses?: number;
  readonly dModel?: number;
  readonly nLayer?: number;
  readonly dState?: number;
  /** "v2": the way back has convolution, projections, A and D of its own; "v1": only A; "none": there is no way back. */
  readonly bimamba?: "v2" | "v1" | "none";
  /** With v2, the mean of both directions rather than their sum. */
  readonly divideOut?: boolean;
  readonly classToken?: ClassToken;
  /** Without a class token: the last patch's features, their mean, or the largest logit over all patches. */
  readonly pool?: "mean" | "last" | "max";
  /** A learnt position for every patch and class token. */
  readonly positions?: boolean;
  readonly norm?: "rms" | "layer";
  readonly normEps?: number;
  /** Probability that the last layer is skipped in training; it rises linearly from 0 in the first (arXiv:1603.09382). */
  readonly dropPath?: number;
}

export type ResolvedVisionMambaConfig = Required<Omit<VisionMambaConfig, "imageSize">> & {
  readonly imageSize: readonly [number, number];
  /** Rows and columns of patches. */
  readonly grid: readonly [number, number];
  /** Positions of the class tokens among all tokens. */
  readonly classPositions: readonly number[];
  /** Of the layers. */
  readonly mamba: ResolvedMambaConfig;
};

const defaults = {
  imageSize: 224,
  patchSize: 16,
  channels: 3,
  nClasses: 1000,
  dModel: 192,
  nLayer: 24,
  dState: 16,
  bimamba: "v2",
  divideOut: true,
  classToken: "middle",
  pool: "mean",
  positions: true,
  norm: "rms",
  normEps: 1e-5,
  dropPath: 0,
} as const;

/** The published sizes, all with patches of 16 pixels of 224 x 224; fine-tuned ones have a stride of 8. */
export const visionMambaSizes = {
  tiny: { dModel: 192, nLayer: 24 },
  small: { dModel: 384, nLayer: 24 },
  base: { dModel: 768, nLayer: 24 },
} as const satisfies { readonly [size: string]: VisionMambaConfig };

/** Fills in defaults and derived sizes; throws ConfigError naming an impossible or unknown value. */
export function resolveVisionMambaConfig(given: VisionMambaConfig): ResolvedVisionMambaConfig {
  for (const key of Object.keys(given))
    if (!(key in defaults) && key !== "stride") throw new ConfigError(`config: ${key} is not known`);
  const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const merged = { ...defaults, ...set } as typeof defaults & VisionMambaConfig;
  const [height, width] =
    typeof merged.imageSize === "number"
      ? [merged.imageSize, merged.imageSize]
      : (merged.imageSize as readonly [number, number]);
  const { patchSize, stride = patchSize, classToken, dropPath } = merged;
  for (const [key, n] of Object.entries({ height, width, patchSize, stride, channels: merged.channels }))
    if (!Number.isInteger(n) || n < 1) throw new ConfigError(`config: ${key} is ${String(n)}, not a positive integer`);
  if (!Number.isInteger(merged.nClasses) || merged.nClasses < 0)
    throw new ConfigError(`config: nClasses is ${String(merged.nClasses)}, not an integer of at least 0`);
  if (height < patchSize || width < patchSize)
    throw new ConfigError(
      `config: an image of ${height} x ${width} pixels has no patch of ${patchSize} x ${patchSize}`,
    );
  if (!(dropPath >= 0 && dropPath < 1)) throw new ConfigError(`config: dropPath is ${String(dropPath)}, not in [0, 1)`);
  for (const [key, among] of [
    ["bimamba", ["v2", "v1", "none"]],
    ["classToken", ["middle", "head", "ends", "none"]],
    ["pool", ["mean", "last", "max"]],
  ] as const)
    if (!(among as readonly string[]).includes(merged[key]))
      throw new ConfigError(`config: ${key} is ${String(merged[key])}, not ${among.join(" or ")}`);
  const mamba = resolveConfig({
    dModel: merged.dModel,
    nLayer: merged.nLayer,
    vocabSize: 1, // There are no tokens.
    dState: merged.dState,
    norm: merged.norm,
    normEps: merged.normEps,
  });
  const grid = [Math.floor((height - patchSize) / stride) + 1, Math.floor((width - patchSize) / stride) + 1] as const;
  const patches = grid[0] * grid[1];
  const classPositions = { middle: [Math.floor(patches / 2)], head: [0], ends: [0, patches + 1], none: [] }[classToken];
  return { ...merged, imageSize: [height, width], stride, grid, classPositions, mamba };
}
