import { ConfigError } from "@mamba-ts/backend";

/** What comes out, and of which positions. */
export type S4Head =
  /** [batch, classes], from the pooled sequence. */
  | { readonly kind: "classification"; readonly classes: number; readonly pool?: "mean" | "last" }
  /** [batch, outputs], from the pooled sequence. */
  | { readonly kind: "regression"; readonly outputs: number; readonly pool?: "mean" | "last" }
  /** [batch, horizon, outputs]: what follows the sequence. */
  | { readonly kind: "forecast"; readonly outputs: number; readonly horizon: number }
  /** [batch, length, outputs]: of every position, from it and those before. */
  | { readonly kind: "autoregressive"; readonly outputs: number };

export interface S4LayerConfig {
  /** Heads: systems side by side, one a channel. */
  readonly dModel: number;
  /** Size of a head's real state: dState / 2 complex modes. 64 by default. */
  readonly dState?: number;
  /** `dplr` is S4 (diagonal plus rank one), `diag` S4D. `diag` by default. */
  readonly mode?: "diag" | "dplr";
  /** Of A and B: `legs` for `dplr`; `lin`, `inv`, `legs`, `real` or `quad` for `diag`. `legs` by default. */
  readonly init?: "legs" | "lin" | "inv" | "real" | "quad";
  /** `bilinear` for `dplr`; `zoh` by default for `diag`. */
  readonly discretization?: "zoh" | "bilinear";
  /** Kernels per head; their outputs lie side by side. 1 by default. */
  readonly channels?: number;
  /** Independent copies of A, B (and P), which divides dModel; dModel by default. */
  readonly nSsm?: number;
  /** A second kernel reads from the end; only for whole sequences. */
  readonly bidirectional?: boolean;
  /** Longest sequence of a `dplr` kernel before its C has to be doubled; 1024 by default. */
  readonly length?: number;
  readonly dtMin?: number;
  readonly dtMax?: number;
  /** How `inv_dt` becomes the step size. `exp` by default. */
  readonly dtTransform?: "exp" | "softplus";
  /** How `A_real` becomes -Re A. `exp` by default. */
  readonly realTransform?: "exp" | "softplus" | "none";
  /** After the convolution. `gelu` by default. */
  readonly activation?: "gelu" | "silu" | "none";
  /** Of the projection that mixes the heads. `glu` by default; `none` leaves it linear. */
  readonly finalActivation?: "glu" | "none";
  /** Share of the activations set to 0 in training; 0 by default. */
  readonly dropout?: number;
}

export interface S4Config extends S4LayerConfig {
  readonly nLayer: number;
  /** Values per sample; give this or vocabSize. */
  readonly dInput?: number;
  /** Tokens instead of values. */
  readonly vocabSize?: number;
  readonly head: S4Head;
  /** The norm before the layer (x + layer(norm(x))) or after the sum, as in the reference's example; false by default. */
  readonly prenorm?: boolean;
  /** `layer` by default. */
  readonly norm?: "layer" | "batch" | "none";
}

export type ResolvedS4LayerConfig = Required<S4LayerConfig>;
export interface ResolvedS4Config extends ResolvedS4LayerConfig {
  readonly nLayer: number;
  readonly dInput: number | undefined;
  readonly vocabSize: number | undefined;
  readonly head: S4Head;
  readonly prenorm: boolean;
  readonly norm: "layer" | "batch" | "none";
}

const layerDefaults = {
  dState: 64,
  mode: "diag",
  init: "legs",
  channels: 1,
  bidirectional: false,
  length: 1024,
  dtMin: 0.001,
  dtMax: 0.1,
  dtTransform: "exp",
  realTransform: "exp",
  activation: "gelu",
  finalActivation: "glu",
  dropout: 0,
} as const;

/** Fills in what a layer's configuration leaves open. Throws ConfigError naming what cannot be. */
export function resolveLayerConfig(config: S4LayerConfig): ResolvedS4LayerConfig {
  const merged = { ...layerDefaults, ...dropUndefined(config) };
  const discretization = config.discretization ?? (merged.mode === "dplr" ? "bilinear" : "zoh");
  const resolved: ResolvedS4LayerConfig = { ...merged, discretization, nSsm: config.nSsm ?? config.dModel };
  for (const key of ["dModel", "dState", "channels", "nSsm", "length"] as const)
    demand(key, resolved[key], Number.isInteger(resolved[key]) && resolved[key] > 0, "a positive integer");
  demand("dState", resolved.dState, resolved.dState % 2 === 0, "even: half of it are the modes");
  demand("nSsm", resolved.nSsm, resolved.dModel % resolved.nSsm === 0, `a divisor of dModel ${resolved.dModel}`);
  demand("dropout", resolved.dropout, resolved.dropout >= 0 && resolved.dropout < 1, "in [0, 1)");
  demand("dtMin", resolved.dtMin, resolved.dtMin > 0 && resolved.dtMin <= resolved.dtMax, `in (0, ${resolved.dtMax}]`);
  demand("dtMax", resolved.dtMax, Number.isFinite(resolved.dtMax), "finite");
  choice("mode", resolved.mode, ["diag", "dplr"]);
  choice("init", resolved.init, resolved.mode === "dplr" ? ["legs"] : ["legs", "lin", "inv", "real", "quad"]);
  choice("discretization", discretization, resolved.mode === "dplr" ? ["bilinear"] : ["zoh", "bilinear"]);
  choice("dtTransform", resolved.dtTransform, ["exp", "softplus"]);
  choice("realTransform", resolved.realTransform, ["exp", "softplus", "none"]);
  choice("activation", resolved.activation, ["gelu", "silu", "none"]);
  choice("finalActivation", resolved.finalActivation, ["glu", "none"]);
  demand("bidirectional", resolved.bidirectional, typeof resolved.bidirectional === "boolean", "true or false");
  return resolved;
}

/** Fills in what a model's configuration leaves open. Throws ConfigError naming what cannot be, keys it does not know included. */
export function resolveConfig(config: S4Config): ResolvedS4Config {
  const { nLayer, dInput, vocabSize, head, prenorm = false, norm = "layer", ...layer } = config;
  const known = new Set(["dModel", "nSsm", "discretization", ...Object.keys(layerDefaults)]);
  for (const key of Object.keys(layer)) if (!known.has(key)) throw new ConfigError(`config: ${key} is not known`);
  demand("nLayer", nLayer, Number.isInteger(nLayer) && nLayer >= 0, "an integer of at least 0");
  if ((dInput === undefined) === (vocabSize === undefined))
    throw new ConfigError("config: give either dInput (values) or vocabSize (tokens)");
  const width = dInput ?? vocabSize!;
  demand(
    dInput === undefined ? "vocabSize" : "dInput",
    width,
    Number.isInteger(width) && width > 0,
    "a positive integer",
  );
  choice("norm", norm, ["layer", "batch", "none"]);
  choice("head.kind", head?.kind, ["classification", "regression", "forecast", "autoregressive"]);
  demand("head", headWidth(head), Number.isInteger(headWidth(head)) && headWidth(head) > 0, "of a positive width");
  if ("pool" in head && head.pool !== undefined) choice("head.pool", head.pool, ["mean", "last"]);
  const resolved = { ...resolveLayerConfig(layer), nLayer, dInput, vocabSize, head, prenorm, norm };
  if (resolved.bidirectional && (head.kind === "autoregressive" || head.kind === "forecast"))
    throw new ConfigError(`config: a bidirectional model sees the future, which the ${head.kind} head is to say`);
  return resolved;
}

/** Numbers the decoder gives per position or sequence. */
export function headWidth(head: S4Head): number {
  if (head.kind === "classification") return head.classes;
  return head.kind === "forecast" ? head.outputs * head.horizon : head.outputs;
}

function dropUndefined<T extends object>(x: T): T {
  return Object.fromEntries(Object.entries(x).filter(([, v]) => v !== undefined)) as T;
}

function demand(key: string, value: unknown, ok: boolean, what: string): void {
  if (!ok) throw new ConfigError(`config: ${key} is ${String(value)}, not ${what}`);
}

function choice(key: string, value: unknown, among: readonly string[]): void {
  demand(key, value, among.includes(value as string), among.join(" or "));
}
