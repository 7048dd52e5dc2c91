/** Byte pair encoding (arXiv:1508.07909) of bytes: the small subword vocabulary that a drafter reads. */
import { CheckpointError, InvalidArgumentError } from "@mamba-ts/backend";
import { decodeBytes, encodeBytes, Utf8Decoder } from "@mamba-ts/byte-io";

/** A word ends with the space or line break behind it, so that a text that ends at a boundary has one encoding whatever follows. */
export function isWordBoundary(byte: number): boolean {
  return byte === 32 || byte === 10;
}

/** Pieces that no subword crosses: up to and with each boundary byte. */
function* pieces(text: Uint8Array): Generator<Uint8Array> {
  let start = 0;
  for (let i = 0; i < text.length; i++)
    if (isWordBoundary(text[i]!)) {
      yield text.subarray(start, i + 1);
      start = i + 1;
    }
  if (start < text.length) yield text.subarray(start);
}

const keyOf = (a: number, b: number): number => a * 65536 + b;

/** A vocabulary of the 256 bytes and of pairs of earlier tokens, in the order they were merged. */
export class BytePairs {
  readonly #ranks = new Map<number, number>();
  readonly #tokens: Uint8Array[];
  readonly #cache = new Map<string, readonly number[]>();
  /** Tokens in the order of their bytes, and those bytes as strings of one character each: made when first needed. */
  #sorted: { readonly ids: Int32Array; readonly keys: readonly string[] } | undefined;
  /** Subwords have no end-of-text token. */
  readonly eosId: number | undefined = undefined;

  /** @param merges - pairs of tokens; the i-th becomes token 256 + i. Throws CheckpointError for a pair of tokens that are not there yet. */
  constructor(readonly merges: readonly (readonly [number, number])[]) {
    this.#tokens = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));
    for (const [i, [a, b]] of merges.entries()) {
      const [left, right] = [this.#tokens[a], this.#tokens[b]];
      if (left === undefined || right === undefined)
        throw new CheckpointError(`byte pairs: merge ${i} joins ${a} and ${b}, of which there is none yet`);
      this.#tokens.push(Uint8Array.of(...left, ...right));
      this.#ranks.set(keyOf(a, b), i);
    }
  }

  get vocabSize(): number {
    return this.#tokens.length;
  }

  /**
   * Learns the merges: again and again the pair of neighbours that occurs most (the smallest among equals).
   * @param vocabSize - from 256 to 65,536; fewer come out of a text that repeats too little
   */
  static train(text: Uint8Array, vocabSize: number): BytePairs {
    if (!Number.isInteger(vocabSize) || vocabSize < 256 || vocabSize > 65536)
      throw new InvalidArgumentError(`byte pairs: a vocabulary of ${vocabSize}; 256 to 65536 are possible`);
    const counts = new Map<string, number>();
    for (const piece of pieces(text)) {
      const key = String.fromCharCode(...piece.subarray(0, 256));
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    const words = [...counts].map(([word, count]) => ({ tokens: Array.from(word, (c) => c.charCodeAt(0)), count }));
    const pairs = new Map<number, { count: number; words: Set<number> }>();
    const note = (w: number, sign: 1 | -1): void => {
      const { tokens, count } = words[w]!;
      for (let i = 1; i < tokens.length; i++) {
        const key = keyOf(tokens[i - 1]!, tokens[i]!);
        let pair = pairs.get(key);
        if (pair === undefined) pairs.set(key, (pair = { count: 0, words: new Set() }));
        pair.count += sign * count;
        if (sign === 1) pair.words.add(w);
      }
    };
    for (let w = 0; w < words.length; w++) note(w, 1);
    const merges: [number, number][] = [];
    while (256 + merges.length < vocabSize) {
      let [best, most] = [-1, 1];
      for (const [key, { count }] of pairs)
        if (count > most || (count === most && most > 1 && key < best)) [best, most] = [key, count];
      if (best < 0) break;
      const [a, b] = [Math.floor(best / 65536), best % 65536];
      for (const w of pairs.get(best)!.words) {
        note(w, -1);
        words[w]!.tokens = joined(words[w]!.tokens, a, b, 256 + merges.length);
        note(w, 1);
      }
      pairs.delete(best);
      merges.push([a, b]);
    }
    return new BytePairs(merges);
  }

  /** Bytes or a text to tokens. */
  encode(text: string | Uint8Array): Int32Array {
    const out: number[] = [];
    for (const piece of pieces(typeof text === "string" ? encodeBytes(text) : text)) {
      const key = String.fromCharCode(...piece.subarray(0, 64));
      const known = piece.length <= 64 ? this.#cache.get(key) : undefined;
      const tokens = known ?? this.#encodePiece(piece);
      if (known === undefined && piece.length <= 64 && this.#cache.size < 65536) this.#cache.set(key, tokens);
      for (const token of tokens) out.push(token);
    }
    return Int32Array.from(out);
  }

  #encodePiece(piece: Uint8Array): readonly number[] {
    let tokens = Array.from(piece);
    for (;;) {
      let best = Number.POSITIVE_INFINITY;
      for (let i = 1; i < tokens.length; i++)
        best = Math.min(best, this.#ranks.get(keyOf(tokens[i - 1]!, tokens[i]!)) ?? best);
      if (!Number.isFinite(best)) return tokens;
      const [a, b] = this.merges[best]!;
      tokens = joined(tokens, a, b, 256 + best);
    }
  }

  /** The bytes of a token. Throws InvalidArgumentError for what is none. */
  bytesOf(token: number): Uint8Array {
    const bytes = this.#tokens[token];
    if (bytes === undefined) throw new InvalidArgumentError(`byte pairs: ${token} is no token of ${this.vocabSize}`);
    return bytes;
  }

  /** The tokens whose bytes begin with these, in the order of their bytes; all of them for none. */
  beginningWith(bytes: ArrayLike<number>): Int32Array {
    this.#sorted ??= this.#sort();
    const { ids, keys } = this.#sorted;
    const prefix = String.fromCharCode(...Array.from(bytes));
    const from = firstFrom(keys, prefix);
    // Above every string that begins so: bytes end at 255.
    return ids.subarray(from, firstFrom(keys, `${prefix}\u0100`));
  }

  #sort(): { readonly ids: Int32Array; readonly keys: readonly string[] } {
    const names = this.#tokens.map((token) => String.fromCharCode(...token));
    const ids = Int32Array.from(names.keys()).sort((a, b) =>
      names[a]! < names[b]! ? -1 : names[a]! > names[b]! ? 1 : a - b,
    );
    return { ids, keys: Array.from(ids, (id) => names[id]!) };
  }

  /**
   * A text that may end within a word: the tokens that are certain, and the bytes behind them that at least one token begins with, whatever
   * follows.
   */
  encodeOpen(text: ArrayLike<number>): { readonly subwords: readonly number[]; readonly rest: readonly number[] } {
    const bytes = Uint8Array.from(Array.from(text));
    const end = bytes.findLastIndex(isWordBoundary) + 1;
    const subwords = Array.from(this.encode(bytes.subarray(0, end)));
    let rest: Uint8Array = bytes.subarray(end);
    if (rest.length > 0 && this.beginningWith(rest).length === 0) {
      const tokens = this.encode(rest);
      subwords.push(...tokens.subarray(0, -1));
      rest = this.bytesOf(tokens.at(-1)!);
    }
    return { subwords, rest: [...rest] };
  }

  /** The bytes of tokens. */
  decodeToBytes(ids: ArrayLike<number>): Uint8Array {
    return Uint8Array.from(Array.from(ids).flatMap((id) => [...this.bytesOf(id)]));
  }

  /** The text of tokens; invalid UTF-8 becomes U+FFFD. */
  decode(ids: ArrayLike<number>): string {
    return decodeBytes(this.decodeToBytes(ids));
  }

  /** Text as tokens come, never a part of a character. */
  streamDecoder(): { push(id: number): string; flush(): string } {
    const decoder = new Utf8Decoder();
    return { push: (id) => decoder.push(this.bytesOf(id)), flush: () => decoder.flush() };
  }

  /** What `BytePairs.from` reads. */
  toJSON(): unknown {
    return { format: "mamba-ts.byte-pairs.1", merges: this.merges };
  }

  /** The inverse of `toJSON`. Throws CheckpointError. */
  static from(json: unknown): BytePairs {
    const { format, merges } = (json ?? {}) as { format?: unknown; merges?: unknown };
    const isPair = (pair: unknown): boolean =>
      Array.isArray(pair) && pair.length === 2 && pair.every((n) => Number.isInteger(n) && (n as number) >= 0);
    if (format !== "mamba-ts.byte-pairs.1" || !Array.isArray(merges) || !merges.every(isPair))
      throw new CheckpointError("byte pairs: this is no saved vocabulary");
    return new BytePairs(merges as [number, number][]);
  }
}

/** Where the first key of at least this one stands among sorted ones. */
function firstFrom(keys: readonly string[], key: string): number {
  let [low, high] = [0, keys.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (keys[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The tokens with every a, b made one. */
function joined(tokens: readonly number[], a: number, b: number, token: number): number[] {
  const out: number[] = [];
  for (let i = 0; i < tokens.length; i++)
    if (tokens[i] === a && tokens[i + 1] === b) {
      out.push(token);
      i++;
    } else out.push(tokens[i]!);
  return out;
}
