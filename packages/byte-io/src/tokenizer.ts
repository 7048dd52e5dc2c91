import { encodeBytes, Utf8Decoder } from "./text.js";

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

  encode(text: string): Int32Array {
    return Int32Array.from(encodeBytes(text));
  }

  /** Ids beyond 255 (padding of a vocabulary) decode to nothing. */
  decode(ids: ArrayLike<number>): string {
    const decoder = this.streamDecoder();
    let text = "";
    for (let i = 0; i < ids.length; i++) text += decoder.push(ids[i]!);
    return text + decoder.flush();
  }

  streamDecoder(): StreamDecoder {
    const decoder = new Utf8Decoder();
    return {
      push: (id) => (id < 256 ? decoder.push(Uint8Array.of(id)) : ""),
      flush: () => decoder.flush(),
    };
  }
}
