import { ByteDataError } from "./errors.js";

/** The UTF-8 bytes of a text. A lone surrogate becomes U+FFFD, as everywhere on the web. */
export function encodeBytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export interface DecodeOptions {
  /** Throw ByteDataError at invalid UTF-8 instead of writing U+FFFD; false by default. */
  readonly fatal?: boolean;
}

/** The text of UTF-8 bytes, invalid ones as U+FFFD the way the web does it. A byte order mark is kept: every byte counts. */
export function decodeBytes(bytes: Uint8Array, options: DecodeOptions = {}): string {
  const decoder = new Utf8Decoder(options);
  return decoder.push(bytes) + decoder.flush();
}

/**
 * Decodes UTF-8 as it arrives, in pieces of any size: what it returns never ends inside a character, and all that it returns is what
 * decoding the whole at once would give.
 */
export class Utf8Decoder {
  readonly #fatal: boolean;
  #decoder: TextDecoder;
  constructor({ fatal = false }: DecodeOptions = {}) {
    this.#fatal = fatal;
    this.#decoder = this.#fresh();
  }

  /** The characters that are complete by now. */
  push(bytes: Uint8Array): string {
    // Browsers do not decode memory that is shared between threads.
    return this.#decode(bytes.buffer instanceof ArrayBuffer ? bytes : bytes.slice(), true);
  }

  /** Ends the text: an unfinished character becomes U+FFFD (or an error). The decoder can be used again, also after an error. */
  flush(): string {
    return this.#decode(new Uint8Array(0), false);
  }

  #fresh(): TextDecoder {
    return new TextDecoder("utf-8", { fatal: this.#fatal, ignoreBOM: true });
  }

  #decode(bytes: Uint8Array, stream: boolean): string {
    try {
      return this.#decoder.decode(bytes, { stream });
    } catch (cause) {
      this.#decoder = this.#fresh();
      throw new ByteDataError("the bytes are not UTF-8", "read them as bytes, or decode without `fatal`", { cause });
    }
  }
}
