/**
 * MambaByte: token-free selective state space models (Wang et al., arXiv:2401.13660). A Mamba whose tokens are the 256 byte values: no
 * vocabulary, no tokenizer, nothing that a misspelling could break. The model is `Mamba` itself; this file says which one.
 *
 * paper   here        meaning
 * n       nLayer      layers
 * d       dModel      width
 * e       expand      2, channels inside a block per width
 * n_state dState      16
 * bpb                 bits per byte: cross-entropy in nats over ln 2
 *
 * The paper's models have LayerNorm with bias, and an embedding apart from the head; checkpoints with RMSNorm exist, and load too.
 */
import { type Backend, ConfigError, type DType, InvalidArgumentError } from "@mamba-ts/backend";
import { Mamba, type MambaConfig } from "@mamba-ts/mamba";

/** The published sizes, by their number of parameters. */
export const mambaByteSizes = {
  "353M": { dModel: 1024, nLayer: 53 },
  "972M": { dModel: 1792, nLayer: 48 },
  "1.6B": { dModel: 2304, nLayer: 48 },
} as const satisfies { readonly [size: string]: Pick<MambaConfig, "dModel" | "nLayer"> };
export type MambaByteSize = keyof typeof mambaByteSizes;

/** What may differ from the published models: everything but the vocabulary. */
export type MambaByteConfig = Omit<MambaConfig, "vocabSize">;

/** The configuration of a published size, or of another one with the published models' choices. Throws ConfigError for an unknown size. */
export function mambaByteConfig(size: MambaByteSize | MambaByteConfig): MambaConfig {
  if (typeof size === "string" && !Object.hasOwn(mambaByteSizes, size))
    throw new ConfigError(`MambaByte: ${String(size)} is no published size`, {
      hint: `there are ${Object.keys(mambaByteSizes).join(", ")}`,
    });
  const own = typeof size === "string" ? mambaByteSizes[size] : size;
  return { norm: "layer", tieEmbeddings: false, ...own, vocabSize: 256 };
}

/** A model with random weights; the same seed gives the same weights everywhere. */
export function createMambaByte(
  size: MambaByteSize | MambaByteConfig,
  options: { readonly backend: Backend; readonly seed?: number; readonly dtype?: DType },
): Mamba {
  return Mamba.create(mambaByteConfig(size), options);
}

/**
 * Perplexity per word of a text that was read byte by byte (section 3): exp(nats per byte * bytes / words), which compares with models that
 * read subwords.
 * @param natsPerByte - mean cross-entropy  @param words - by whitespace, see `countWords`
 */
export function wordPerplexity(natsPerByte: number, bytes: number, words: number): number {
  if (!(words > 0 && bytes > 0)) throw new InvalidArgumentError(`wordPerplexity: ${bytes} bytes of ${words} words`);
  return Math.exp((natsPerByte * bytes) / words);
}

const isSpace = (byte: number): boolean => byte === 32 || (byte >= 9 && byte <= 13);

/** Words of a text as whitespace separates them. */
export function countWords(text: ArrayLike<number>): number {
  let words = 0;
  for (let i = 0; i < text.length; i++) if (!isSpace(text[i]!) && (i === 0 || isSpace(text[i - 1]!))) words++;
  return words;
}
