import { ByteDataError } from "./errors.js";
import { decodeBytes, encodeBytes, Utf8Decoder } from "./text.js";

/** Decodes a stream of tokens: `push` returns the text that is certain by now, `flush` the rest. */
export interface StreamDecoder {
  push(id: number): string;
  flush(): string;
}

/** Text to bytes and back, one token per byte (arXiv:2401.13660): no vocabulary to load, nothing out of it. */
export class ByteTokenizer {
  readonly vocabSize = 256;
  /** Bytes have no end-of-text token. */
  readonly eosId: number | undefined = undefined;

  /** The UTF-8 bytes of a text, one token each. */
  encode(text: string): Int32Array {
    return new Int32Array(encodeBytes(text));
  }

  /** Ids from 256 on (padding of a vocabulary) decode to nothing; what is no id at all throws ByteDataError. */
  decode(ids: ArrayLike<number>): string {
    return decodeBytes(Uint8Array.from(Array.from(ids).filter(isByte)));
  }

  /** Its texts, joined, are `decode` of all ids; none ends inside a character. */
  streamDecoder(): StreamDecoder {
    const decoder = new Utf8Decoder();
    return {
      push: (id) => (isByte(id) ? decoder.push(Uint8Array.of(id)) : ""),
      flush: () => decoder.flush(),
    };
  }
}

function isByte(id: number): boolean {
  if (!Number.isSafeInteger(id) || id < 0) throw new ByteDataError(`ByteTokenizer: ${id} is no token`);
  return id < 256;
}
