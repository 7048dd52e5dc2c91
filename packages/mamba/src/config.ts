import { ConfigError } from "@mamba-ts/backend";

/** What a Mamba is made of. Only the first three have no default. */
export interface MambaConfig {
  readonly dModel: number;
  readonly nLayer: number;
  /** Rows of the embedding and the head; already padded. */
  readonly vocabSize: number;
  /** States per channel, N. */
  readonly dState?: number;
  /** Width of the causal convolution. */
  readonly dConv?: number;
  /** dInner = expand * dModel, unless dInner is given. */
  readonly expand?: number;
  readonly dInner?: number;
  /** Rank of the step size's projection; "auto": ceil(dModel / 16). */
  readonly dtRank?: number | "auto";
  readonly dtMin?: number;
  readonly dtMax?: number;
  readonly dtScale?: number;
  readonly dtInit?: "random" | "constant";
  readonly dtInitFloor?: number;
  readonly convBias?: boolean;
  /** Biases of inProj and outProj. */
  readonly bias?: boolean;
  readonly norm?: "rms" | "layer";
  readonly normEps?: number;
  readonly tieEmbeddings?: boolean;
  /** RMS norms of dt, B and C before they are used: FalconMamba's have no weights ("plain"), Jamba's have ("weighted"). */
  readonly innerNorm?: "none" | "plain" | "weighted";
  readonly innerNormEps?: number;
}

export type ResolvedMambaConfig = Required<Omit<MambaConfig, "dtRank">> & { readonly dtRank: number };

const defaults = {
  dState: 16,
  dConv: 4,
  expand: 2,
  dtMin: 0.001,
  dtMax: 0.1,
  dtScale: 1,
  dtInit: "random",
  dtInitFloor: 1e-4,
  convBias: true,
  bias: false,
  norm: "rms",
  normEps: 1e-5,
  tieEmbeddings: true,
  innerNorm: "none",
  innerNormEps: 1e-6,
} as const;

/** Making the layers of a number that a damaged file names must not take all memory. */
const MAX_LAYERS = 10_000;

/** Fills in defaults and derived sizes; throws ConfigError naming an impossible or unknown value. */
export function resolveConfig(config: MambaConfig): ResolvedMambaConfig {
  const known = new Set([...Object.keys(defaults), "dModel", "nLayer", "vocabSize", "dInner", "dtRank"]);
  for (const key of Object.keys(config)) if (!known.has(key)) throw new ConfigError(`config: ${key} is not known`);
  const given = Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined));
  const merged = { ...defaults, ...given } as typeof defaults & MambaConfig;
  const dInner = config.dInner ?? merged.expand * config.dModel;
  const dtRank = typeof config.dtRank === "number" ? config.dtRank : Math.ceil(config.dModel / 16);
  const resolved: ResolvedMambaConfig = { ...merged, dInner, dtRank };
  for (const key of ["dModel", "vocabSize", "dState", "dConv", "dInner", "dtRank"] as const)
    demand(resolved, key, (n) => Number.isInteger(n) && n > 0, "a positive integer");
  demand(
    resolved,
    "nLayer",
    (n) => Number.isInteger(n) && n >= 0 && n <= MAX_LAYERS,
    `an integer of 0 to ${MAX_LAYERS}`,
  );
  for (const key of ["expand", "dtMin", "dtMax", "dtScale", "normEps", "innerNormEps"] as const)
    demand(resolved, key, (x) => Number.isFinite(x) && x > 0, "a positive number");
  demand(resolved, "dtInitFloor", (x) => Number.isFinite(x) && x >= 0, "a number of at least 0");
  if (resolved.dtMax < resolved.dtMin)
    throw new ConfigError(`config: dtMax ${resolved.dtMax} is below dtMin ${resolved.dtMin}`);
  for (const key of ["convBias", "bias", "tieEmbeddings"] as const)
    if (typeof resolved[key] !== "boolean")
      throw new ConfigError(`config: ${key} is ${String(resolved[key])}, not true or false`);
  choice(resolved, "norm", ["rms", "layer"]);
  choice(resolved, "innerNorm", ["none", "plain", "weighted"]);
  choice(resolved, "dtInit", ["random", "constant"]);
  return resolved;
}

type NumberKey = {
  [K in keyof ResolvedMambaConfig]: ResolvedMambaConfig[K] extends number ? K : never;
}[keyof ResolvedMambaConfig];

function demand(config: ResolvedMambaConfig, key: NumberKey, ok: (n: number) => boolean, what: string): void {
  const value = config[key];
  if (typeof value !== "number" || !ok(value)) throw new ConfigError(`config: ${key} is ${String(value)}, not ${what}`);
}

function choice(config: ResolvedMambaConfig, key: keyof ResolvedMambaConfig, among: readonly string[]): void {
  if (!among.includes(config[key] as string))
    throw new ConfigError(`config: ${key} is ${String(config[key])}, not ${among.join(" or ")}`);
}
