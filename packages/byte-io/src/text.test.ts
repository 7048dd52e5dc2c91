import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ByteDataError } from "./errors.js";
import { decodeBytes, encodeBytes, Utf8Decoder } from "./text.js";

/** The UTF-8 decoder of the WHATWG Encoding standard, section 8.1.1, byte by byte; undefined where it would throw in fatal mode. */
class StandardDecoder {
  #point = 0;
  #needed = 0;
  #seen = 0;
  #lower = 0x80;
  #upper = 0xbf;
  constructor(readonly fatal: boolean) {}

  push(byte: number): string | undefined {
    if (this.#needed === 0) return this.#first(byte);
    if (byte < this.#lower || byte > this.#upper) {
      this.#reset();
      const again = this.#first(byte);
      return this.fatal || again === undefined ? undefined : `\ufffd${again}`;
    }
    [this.#lower, this.#upper] = [0x80, 0xbf];
    this.#point = (this.#point << 6) | (byte & 0x3f);
    if (++this.#seen < this.#needed) return "";
    const character = String.fromCodePoint(this.#point);
    this.#reset();
    return character;
  }

  flush(): string | undefined {
    const isOpen = this.#needed > 0;
    this.#reset();
    return isOpen ? this.#error() : "";
  }

  #first(byte: number): string | undefined {
    if (byte <= 0x7f) return String.fromCodePoint(byte);
    if (byte >= 0xc2 && byte <= 0xdf) return this.#open(1, byte & 0x1f);
    if (byte >= 0xe0 && byte <= 0xef) {
      if (byte === 0xe0) this.#lower = 0xa0;
      if (byte === 0xed) this.#upper = 0x9f;
      return this.#open(2, byte & 0xf);
    }
    if (byte >= 0xf0 && byte <= 0xf4) {
      if (byte === 0xf0) this.#lower = 0x90;
      if (byte === 0xf4) this.#upper = 0x8f;
      return this.#open(3, byte & 0x7);
    }
    return this.#error();
  }

  #open(needed: number, point: number): string {
    [this.#needed, this.#seen, this.#point] = [needed, 0, point];
    return "";
  }

  #error(): string | undefined {
    return this.fatal ? undefined : "\ufffd";
  }

  #reset(): void {
    [this.#point, this.#needed, this.#seen, this.#lower, this.#upper] = [0, 0, 0, 0x80, 0xbf];
  }
}

/** What the standard makes of bytes, piece by piece, the end last; undefined if it throws. */
function standard(bytes: readonly number[], fatal = false): string[] | undefined {
  const decoder = new StandardDecoder(fatal);
  const pieces = [...bytes.map((byte) => decoder.push(byte)), decoder.flush()];
  return pieces.every((piece) => piece !== undefined) ? pieces : undefined;
}

/** What Utf8Decoder makes of them; undefined if it throws a typed error. */
function streamed(bytes: readonly number[], fatal = false): string[] | undefined {
  const decoder = new Utf8Decoder({ fatal });
  try {
    return [...bytes.map((byte) => decoder.push(Uint8Array.of(byte))), decoder.flush()];
  } catch (error) {
    if (error instanceof ByteDataError) return undefined;
    throw error;
  }
}

/** Bytes next to the borders of what UTF-8 allows in each place. */
const borders = [
  0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xf5,
  0xff,
];
const few = [0x41, 0x80, 0x90, 0xa0, 0xbf, 0xc2, 0xe0, 0xed, 0xf0, 0xf4, 0xff];

/** All sequences of `length` of these bytes. */
function* sequences(bytes: readonly number[], length: number): Generator<number[]> {
  if (length === 0) yield [];
  else for (const rest of sequences(bytes, length - 1)) for (const byte of bytes) yield [...rest, byte];
}

/** Text with some bytes changed, lost or doubled. */
const damaged = fc
  .tuple(
    fc.string({ unit: "binary", maxLength: 12 }),
    fc.array(fc.tuple(fc.nat(), fc.nat(255), fc.nat(2)), { maxLength: 4 }),
  )
  .map(([text, changes]) => {
    const bytes = [...new TextEncoder().encode(text)];
    for (const [place, byte, kind] of changes)
      bytes.splice(place % (bytes.length + 1), kind, ...(kind === 2 ? [] : [byte]));
    return bytes;
  });

const characters = ["a", "\u0000", "é", "ß", "€", "한", "\ufeff", "\ufffd", "\uffff", "😀", "👩‍👩‍👧", "\u{10ffff}"];

describe("encodeBytes and decodeBytes", () => {
  it("are UTF-8", () => {
    expect([...encodeBytes("aé€😀")]).toEqual([0x61, 0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x98, 0x80]);
    expect(decodeBytes(encodeBytes(characters.join("")))).toBe(characters.join(""));
    expect(decodeBytes(encodeBytes(""))).toBe("");
  });

  it("undo each other on any text, byte order marks included", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        expect(decodeBytes(encodeBytes(text), { fatal: true })).toBe(text);
        expect(decodeBytes(encodeBytes(`\ufeff${text}`), { fatal: true })).toBe(`\ufeff${text}`);
      }),
    );
  });

  it("make U+FFFD of lone surrogates, and leave pairs together", () => {
    for (const lone of ["\ud83d", "\ude00", "\ude00\ud83d"])
      expect(decodeBytes(encodeBytes(`a${lone}b`))).toBe(`a${"\ufffd".repeat(lone.length)}b`);
    expect(encodeBytes("\ud83d\ude00")).toEqual(encodeBytes("😀"));
  });

  it("decode a part of a buffer, and memory shared between threads", () => {
    const bytes = encodeBytes("xé€y");
    expect(decodeBytes(bytes.subarray(1, 6))).toBe("é€");
    const shared = new Uint8Array(new SharedArrayBuffer(6));
    shared.set(bytes.subarray(1));
    expect(decodeBytes(shared)).toBe("é€y");
  });

  it("decode as TextDecoder does, valid or not", () => {
    fc.assert(
      fc.property(damaged, (bytes) => {
        const whole = new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
        expect(decodeBytes(Uint8Array.from(bytes))).toBe(whole);
      }),
      { numRuns: 500 },
    );
  });
});

describe("Utf8Decoder", () => {
  it("gives each character with its last byte, and nothing before", () => {
    const decoder = new Utf8Decoder({ fatal: true });
    for (const character of characters.flatMap((text) => [...text])) {
      const bytes = encodeBytes(character);
      const pieces = Array.from(bytes, (byte) => decoder.push(Uint8Array.of(byte)));
      expect(pieces).toEqual([...new Array<string>(bytes.length - 1).fill(""), character]);
    }
    expect(decoder.flush()).toBe("");
  });

  it("does not care where a text is cut", () => {
    const text = characters.join("");
    const bytes = encodeBytes(text);
    for (let first = 0; first <= bytes.length; first++)
      for (let second = first; second <= Math.min(bytes.length, first + 5); second++) {
        const decoder = new Utf8Decoder();
        const cut = [bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)];
        const pieces = cut.map((piece) => decoder.push(piece));
        expect(pieces.join("") + decoder.flush()).toBe(text);
        for (const piece of pieces) expect(piece).not.toMatch(/\p{Surrogate}/u);
      }
  });

  it.each([
    ["any two bytes", Array.from({ length: 256 }, (_, byte) => byte), 2],
    ["three bytes next to a border", borders, 3],
    ["four bytes next to a border", few, 4],
  ] as const)("decodes as the standard says, byte by byte: %s", (_, bytes, length) => {
    for (const sequence of sequences(bytes, length)) {
      const [got, want] = [streamed(sequence), standard(sequence)];
      if (got?.join("|") !== want?.join("|")) expect({ sequence, got }).toEqual({ sequence, got: want });
    }
  });

  it("throws in fatal mode exactly where the standard does", () => {
    for (const sequence of sequences(few, 3)) {
      const [got, want] = [streamed(sequence, true), standard(sequence, true)];
      if (got?.join("|") !== want?.join("|")) expect({ sequence, got }).toEqual({ sequence, got: want });
    }
    fc.assert(
      fc.property(damaged, (bytes) => {
        expect(streamed(bytes, true)).toEqual(standard(bytes, true));
        expect(streamed(bytes)).toEqual(standard(bytes));
      }),
      { numRuns: 500 },
    );
  });

  it("starts afresh after the end and after an error", () => {
    const decoder = new Utf8Decoder({ fatal: true });
    expect(() => decoder.push(Uint8Array.of(0x61, 0xe2, 0x28))).toThrow(ByteDataError);
    expect(decoder.push(encodeBytes("é"))).toBe("é");
    decoder.push(Uint8Array.of(0xf0, 0x9f));
    expect(() => decoder.flush()).toThrow("the bytes are not UTF-8");
    expect(decoder.push(encodeBytes("\ufeffz")) + decoder.flush()).toBe("\ufeffz");
    const lenient = new Utf8Decoder();
    expect(lenient.push(Uint8Array.of(0xf0, 0x9f, 0x98))).toBe("");
    expect(lenient.flush()).toBe("\ufffd");
    expect(lenient.push(Uint8Array.of(0x80))).toBe("\ufffd");
  });
});
