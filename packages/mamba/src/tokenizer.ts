import { Tokenizer as JsonTokenizer } from "@huggingface/tokenizers";
import { CheckpointError } from "@mamba-ts/backend";

/** Text to tokens and back. */
export interface TextTokenizer {
  encode(text: string): Int32Array;
  decode(ids: ArrayLike<number>): string;
  streamDecoder(): { push(id: number): string; flush(): string };
  readonly eosId: number | undefined;
}

/** A tokenizer from `tokenizer.json` and `tokenizer_config.json`. */
export function jsonTokenizer(json: unknown, config: unknown): TextTokenizer {
  let tokenizer: JsonTokenizer;
  try {
    tokenizer = new JsonTokenizer(json as never, (config ?? {}) as never);
  } catch (cause) {
    throw new CheckpointError(`tokenizer.json cannot be used: ${(cause as Error).message}`, { cause });
  }
  const decode = (ids: ArrayLike<number>): string => tokenizer.decode(Array.from(ids), { skip_special_tokens: true });
  const eos = (config as { eos_token?: unknown } | null)?.eos_token;
  const eosText = typeof eos === "string" ? eos : (eos as { content?: string } | undefined)?.content;
  return {
    encode: (text) => Int32Array.from(tokenizer.encode(text, { add_special_tokens: false }).ids),
    decode,
    eosId: eosText === undefined ? undefined : tokenizer.token_to_id(eosText),
    streamDecoder: () => new PrefixDecoder(decode),
  };
}

/** A window of tokens is decoded again with each new one, since what one token stands for may depend on its neighbours. */
class PrefixDecoder {
  #ids: number[] = [];
  #said = 0;
  constructor(readonly decode: (ids: readonly number[]) => string) {}

  push(id: number): string {
    this.#ids.push(id);
    const text = this.decode(this.#ids);
    // A text that ends in U+FFFD may be in the middle of a character.
    if (text.endsWith("\uFFFD")) return "";
    const fresh = text.slice(this.#said);
    this.#said = text.length;
    if (this.#ids.length > 16) {
      // What is settled need not be decoded again; the last token stays as context.
      this.#ids = this.#ids.slice(-1);
      this.#said = this.decode(this.#ids).length;
    }
    return fresh;
  }

  flush(): string {
    const rest = this.decode(this.#ids).slice(this.#said);
    this.#ids = [];
    this.#said = 0;
    return rest;
  }
}
