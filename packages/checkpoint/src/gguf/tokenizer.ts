/**
 * Tokenizers between `tokenizer.json` and GGUF's keys. Byte-level BPE (GPT-2's and its kin, Mamba's among them) is translated both ways;
 * models that read bytes get the 256 bytes as a vocabulary without merges, so that llama.cpp reads text with them too.
 */
import { CheckpointError, UnsupportedError } from "@mamba-ts/backend";
import type { Checkpoint } from "../source.js";
import type { GgufMetadata } from "./read.js";
import type { GgufEntries } from "./write.js";

type Tokenizer = NonNullable<Checkpoint["tokenizer"]>;

/** llama_token_type */
const [NORMAL, CONTROL, USER_DEFINED, UNUSED] = [1, 3, 4, 5];
/** Names of tokenizers whose text is split by GPT-2's rule. */
const gpt2Kin = new Set(["gpt-2", "default", "mpt", "olmo", "phi-2", "jina-es", "jina-de"]);

/** GPT-2's letters for bytes: those that can be printed are themselves, the others follow from 256 on. */
export function byteLetters(): string[] {
  let next = 256;
  const printable = (b: number): boolean => (b > 32 && b < 127) || (b > 160 && b !== 173);
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(printable(b) ? b : next++));
}

interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special?: boolean;
}
interface BpeJson {
  readonly added_tokens?: readonly AddedToken[];
  readonly pre_tokenizer?: unknown;
  readonly model?: {
    readonly type?: string;
    readonly vocab?: Readonly<Record<string, number>>;
    readonly merges?: readonly (string | readonly [string, string])[];
  };
}

/**
 * The keys for a tokenizer, or for bytes where there is none, with names for all of `vocabSize` rows.
 * Throws UnsupportedError for a tokenizer that is no byte-level BPE with GPT-2's rule.
 */
export function tokenizerEntries(tokenizer: Tokenizer | undefined, vocabSize: number): GgufEntries {
  const tokens = Array.from({ length: vocabSize }, (_, id) => `[PAD${id}]`);
  const types = tokens.map(() => UNUSED);
  const name = (id: number, content: string, type: number): void => {
    if (!(id < vocabSize)) throw new CheckpointError(`saving: token ${content} is ${id}, the model has ${vocabSize}`);
    [tokens[id], types[id]] = [content, type];
  };
  let merges: readonly string[] = [];
  let ends: GgufEntries = {};
  if (tokenizer === undefined) {
    if (vocabSize < 256)
      throw new UnsupportedError(
        `saving: a vocabulary of ${vocabSize} without a tokenizer has no names for its tokens`,
      );
    for (const [byte, letter] of byteLetters().entries()) name(byte, letter, NORMAL);
    // llama.cpp must have one; no text holds the byte 0.
    ends = endEntries(0);
  } else {
    const json = byteLevelBpe(tokenizer.json);
    for (const [token, id] of Object.entries(json.model!.vocab!)) name(id, token, NORMAL);
    for (const { id, content, special } of json.added_tokens ?? []) name(id, content, special ? CONTROL : USER_DEFINED);
    merges = (json.model!.merges ?? []).map((pair) => (typeof pair === "string" ? pair : pair.join(" ")));
    const end = tokens.indexOf(endToken(tokenizer.config) ?? "");
    if (end >= 0) ends = endEntries(end);
  }
  return {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": { texts: tokens },
    "tokenizer.ggml.token_type": { int32s: types },
    "tokenizer.ggml.merges": { texts: merges },
    ...ends,
    "tokenizer.ggml.add_bos_token": false,
    "tokenizer.ggml.add_space_prefix": false,
  };
}

/** Mamba's tokenizers begin and end with the same token. */
function endEntries(id: number): GgufEntries {
  return { "tokenizer.ggml.bos_token_id": { uint32: id }, "tokenizer.ggml.eos_token_id": { uint32: id } };
}

function endToken(config: unknown): string | undefined {
  const token = (config as { eos_token?: string | { content?: string } } | null)?.eos_token;
  return typeof token === "string" ? token : token?.content;
}

function byteLevelBpe(json: unknown): BpeJson {
  const { model, pre_tokenizer: pre } = (json ?? {}) as BpeJson;
  const isGpt2 = (p: unknown): boolean => {
    const { type, use_regex: regex, pretokenizers: parts } = (p ?? {}) as Record<string, unknown>;
    if (type === "Sequence" && Array.isArray(parts) && parts.length === 1) return isGpt2(parts[0]);
    return type === "ByteLevel" && regex !== false;
  };
  if (model?.type !== "BPE" || model.vocab === undefined || !isGpt2(pre))
    throw new UnsupportedError("saving: only byte-level BPE with GPT-2's rule is written to GGUF", {
      hint: "this tokenizer.json is of another kind; write safetensors, where it is copied as it is",
    });
  return json as BpeJson;
}

/** The tokenizer of a file; undefined for models that read bytes, and for kinds that are not translated (SentencePiece's and WordPiece's). */
export function tokenizerOf(file: string, metadata: GgufMetadata): Tokenizer | undefined {
  const { "tokenizer.ggml.model": kind, "tokenizer.ggml.pre": pre = "default" } = metadata;
  if (kind !== "gpt2" || !gpt2Kin.has(String(pre))) return undefined;
  const tokens = strings(file, metadata, "tokenizer.ggml.tokens");
  const merges = strings(file, metadata, "tokenizer.ggml.merges");
  const types = metadata["tokenizer.ggml.token_type"];
  const typeOf = (id: number): unknown => (Array.isArray(types) ? types[id] : NORMAL);
  if (merges.length === 0 && byteLetters().every((letter, byte) => tokens[byte] === letter)) return undefined;
  const vocab: Record<string, number> = {};
  const added: object[] = [];
  for (const [id, content] of tokens.entries()) {
    const type = typeOf(id);
    if (type === CONTROL || type === USER_DEFINED)
      added.push({
        id,
        content,
        special: type === CONTROL,
        normalized: false,
        single_word: false,
        lstrip: false,
        rstrip: false,
      });
    if (type !== UNUSED) vocab[content] = id;
  }
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  const end = metadata["tokenizer.ggml.eos_token_id"];
  return {
    json: {
      version: "1.0",
      added_tokens: added,
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor: null,
      decoder: byteLevel,
      model: { type: "BPE", vocab, merges, dropout: null, unk_token: null, fuse_unk: false, byte_fallback: false },
    },
    config: typeof end === "number" && tokens[end] !== undefined ? { eos_token: tokens[end] } : {},
  };
}

function strings(file: string, metadata: GgufMetadata, key: string): readonly string[] {
  const value = metadata[key];
  if (!Array.isArray(value) || !value.every((v) => typeof v === "string"))
    throw new CheckpointError(`${file}: ${key} is no list of texts`);
  return value as readonly string[];
}
