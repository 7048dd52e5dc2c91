import { ConfigError } from "@mamba-ts/backend";
import { type MambaConfig, type ResolvedMambaConfig, resolveConfig } from "@mamba-ts/mamba";

/** What a MoE-Mamba is made of; what it shares with a Mamba has Mamba's names and defaults. */
export interface MoEMambaConfig extends MambaConfig {
  /** Experts per layer; 32 by default. One is a dense feed-forward layer. */
  readonly nExperts?: number;
  /** Width inside each expert; 3 dModel by default. */
  readonly dExpert?: number;
  /** Experts per token; 1, as in Switch. */
  readonly topK?: number;
  /** In training an expert takes capacityFactor * tokens * topK / nExperts choices at most. 1 by default. */
  readonly capacityFactor?: number;
  /** Weight of the load-balancing loss, 0.01 by default. */
  readonly balanceCoef?: number;
  /** Weight of the router's z-loss, 0 by default. */
  readonly zCoef?: number;
}

export type ResolvedMoEMambaConfig = Required<
  Pick<MoEMambaConfig, "nExperts" | "dExpert" | "topK" | "capacityFactor" | "balanceCoef" | "zCoef">
> & { readonly mamba: ResolvedMambaConfig };

/** The paper's sizes (table 8), without the embedding's rows, which depend on the tokenizer. */
export const moeMambaSizes = {
  "25M": { dModel: 512, nLayer: 8, nExperts: 42 },
  "100M": { dModel: 768, nLayer: 16, nExperts: 42 },
} as const;

/** Fills in defaults; throws ConfigError naming an impossible or unknown value. */
export function resolveMoEMambaConfig(config: MoEMambaConfig): ResolvedMoEMambaConfig {
  const {
    nExperts = 32,
    dExpert = 3 * config.dModel,
    topK = 1,
    capacityFactor = 1,
    balanceCoef = 0.01,
    zCoef = 0,
    ...rest
  } = config;
  const mamba = resolveConfig(rest);
  for (const [key, n] of Object.entries({ nExperts, dExpert, topK }))
    if (!Number.isInteger(n) || n < 1) throw new ConfigError(`config: ${key} is ${String(n)}, not a positive integer`);
  if (topK > nExperts) throw new ConfigError(`config: topK ${topK} is above nExperts ${nExperts}`);
  if (!(Number.isFinite(capacityFactor) && capacityFactor > 0))
    throw new ConfigError(`config: capacityFactor is ${String(capacityFactor)}, not a positive number`);
  for (const [key, x] of Object.entries({ balanceCoef, zCoef }))
    if (!(Number.isFinite(x) && x >= 0))
      throw new ConfigError(`config: ${key} is ${String(x)}, not a number of at least 0`);
  return { nExperts, dExpert, topK, capacityFactor, balanceCoef, zCoef, mamba };
}
