import { ConfigError } from "@mamba-ts/backend";
import { type ResolvedMambaConfig, resolveConfig as resolveMamba } from "@mamba-ts/mamba";

export type LayerType = "mamba" | "attention";

/** What a Jamba is made of. Only the first three have no default; the others are Jamba-v0.1's. */
export interface JambaConfig {
  readonly dModel: number;
  readonly nLayer: number;
  readonly vocabSize: number;
  /** Width inside the feed-forward layers and inside each expert. */
  readonly dFeedForward?: number;
  readonly nHeads?: number;
  readonly nKvHeads?: number;
  /** Layer i is attention where i % attnLayerPeriod is attnLayerOffset. */
  readonly attnLayerPeriod?: number;
  readonly attnLayerOffset?: number;
  /** The layers one by one, in place of period and offset. */
  readonly layerTypes?: readonly LayerType[];
  /** Layer i has experts where i % expertLayerPeriod is expertLayerOffset; with nExperts of 1 none has. */
  readonly expertLayerPeriod?: number;
  readonly expertLayerOffset?: number;
  readonly nExperts?: number;
  /** Experts per token; their probabilities are not scaled to add up to 1. */
  readonly topK?: number;
  /** The training loss includes the routers' load-balancing loss (transformers' output_router_logits), times auxLossCoef. */
  readonly auxLoss?: boolean;
  readonly auxLossCoef?: number;
  readonly normEps?: number;
  readonly tieEmbeddings?: boolean;
  /** Tokens a state holds at most. */
  readonly maxLength?: number;
  /** Standard deviation of first weights. */
  readonly initStd?: number;
  readonly dState?: number;
  readonly dConv?: number;
  readonly expand?: number;
  readonly dtRank?: number | "auto";
  readonly convBias?: boolean;
  /** Biases of the Mamba layers' projections. */
  readonly bias?: boolean;
  /** Norms of dt, B and C in the Mamba layers. */
  readonly innerNorms?: boolean;
}

export interface ResolvedJambaConfig
  extends Required<Omit<JambaConfig, "dtRank" | "dState" | "dConv" | "expand" | "convBias" | "bias" | "innerNorms">> {
  /** Of the Mamba layers. */
  readonly mamba: ResolvedMambaConfig;
  /** Per layer: does it have experts? */
  readonly expertLayers: readonly boolean[];
}

const defaults = {
  dFeedForward: 14336,
  nHeads: 32,
  nKvHeads: 8,
  attnLayerPeriod: 8,
  attnLayerOffset: 4,
  expertLayerPeriod: 2,
  expertLayerOffset: 1,
  nExperts: 16,
  topK: 2,
  auxLoss: true,
  auxLossCoef: 0.001,
  normEps: 1e-6,
  tieEmbeddings: false,
  maxLength: 262_144,
  initStd: 0.02,
  innerNorms: true,
} as const;
const mambaKeys = ["dState", "dConv", "expand", "dtRank", "convBias", "bias"] as const;

/** Fills in defaults and the layers' schedule; throws ConfigError naming an impossible or unknown value. */
export function resolveJambaConfig(given: JambaConfig): ResolvedJambaConfig {
  const known = new Set<string>([
    ...Object.keys(defaults),
    ...mambaKeys,
    "dModel",
    "nLayer",
    "vocabSize",
    "layerTypes",
  ]);
  for (const key of Object.keys(given)) if (!known.has(key)) throw new ConfigError(`config: ${key} is not known`);
  const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const { innerNorms, ...merged } = { ...defaults, ...set } as typeof defaults & JambaConfig;
  const { dModel, nLayer, vocabSize, nHeads, nKvHeads, nExperts, topK } = merged;
  const mamba = resolveMamba({
    dModel,
    nLayer,
    vocabSize,
    ...Object.fromEntries(mambaKeys.flatMap((key) => (key in set ? [[key, set[key]]] : []))),
    normEps: merged.normEps,
    tieEmbeddings: merged.tieEmbeddings,
    innerNorm: innerNorms ? "weighted" : "none",
    innerNormEps: merged.normEps,
  });
  for (const key of [
    "dFeedForward",
    "nHeads",
    "nKvHeads",
    "attnLayerPeriod",
    "expertLayerPeriod",
    "nExperts",
    "topK",
    "maxLength",
  ] as const)
    if (!Number.isInteger(merged[key]) || merged[key] < 1)
      throw new ConfigError(`config: ${key} is ${String(merged[key])}, not a positive integer`);
  for (const [offset, period] of [
    ["attnLayerOffset", "attnLayerPeriod"],
    ["expertLayerOffset", "expertLayerPeriod"],
  ] as const)
    if (!Number.isInteger(merged[offset]) || merged[offset] < 0 || merged[offset] >= merged[period])
      throw new ConfigError(`config: ${offset} is ${String(merged[offset])}, not below ${period} ${merged[period]}`);
  if (dModel % nHeads !== 0) throw new ConfigError(`config: dModel ${dModel} is no multiple of nHeads ${nHeads}`);
  if (nHeads % nKvHeads !== 0) throw new ConfigError(`config: nHeads ${nHeads} is no multiple of nKvHeads ${nKvHeads}`);
  if (nExperts > 1 && topK > nExperts) throw new ConfigError(`config: topK ${topK} is above nExperts ${nExperts}`);
  for (const key of ["auxLossCoef", "initStd"] as const)
    if (!(merged[key] >= 0))
      throw new ConfigError(`config: ${key} is ${String(merged[key])}, not a number of at least 0`);
  const layerTypes =
    merged.layerTypes ??
    Array.from(
      { length: nLayer },
      (_, i): LayerType => (i % merged.attnLayerPeriod === merged.attnLayerOffset ? "attention" : "mamba"),
    );
  if (layerTypes.length !== nLayer)
    throw new ConfigError(`config: layerTypes names ${layerTypes.length} layers of ${nLayer}`);
  for (const [i, type] of layerTypes.entries())
    if (type !== "mamba" && type !== "attention")
      throw new ConfigError(`config: layer ${i} is of type ${JSON.stringify(type)}, not mamba or attention`);
  const expertLayers = layerTypes.map(
    (_, i) => nExperts > 1 && i % merged.expertLayerPeriod === merged.expertLayerOffset,
  );
  const { dState, dConv, expand, dtRank, convBias, bias, ...own } = merged;
  return { ...own, layerTypes, mamba, expertLayers };
}
