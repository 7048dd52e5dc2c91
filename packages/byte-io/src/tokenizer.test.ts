import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ByteDataError } from "./errors.js";
import { decodeBytes } from "./text.js";
import { ByteTokenizer } from "./tokenizer.js";

describe("ByteTokenizer", () => {
  const tokenizer = new ByteTokenizer();

  it("has one token per byte", () => {
    expect(tokenizer.vocabSize).toBe(256);
    expect(tokenizer.eosId).toBeUndefined();
    expect(tokenizer.encode("é!")).toEqual(Int32Array.of(0xc3, 0xa9, 0x21));
    expect(tokenizer.encode("")).toEqual(new Int32Array(0));
  });

  it("decodes what it encodes, whole and token by token", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const ids = tokenizer.encode(text);
        const stream = tokenizer.streamDecoder();
        expect(tokenizer.decode(ids)).toBe(text);
        expect(Array.from(ids, (id) => stream.push(id)).join("") + stream.flush()).toBe(text);
      }),
    );
  });

  it("decodes any bytes, as a model may make them", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        const stream = tokenizer.streamDecoder();
        const text = decodeBytes(bytes);
        expect(tokenizer.decode(bytes)).toBe(text);
        expect(Array.from(bytes, (id) => stream.push(id)).join("") + stream.flush()).toBe(text);
      }),
    );
  });

  it("skips the padding of a vocabulary, also inside a character", () => {
    expect(tokenizer.decode([256, 0xc3, 263, 0xa9])).toBe("é");
    const stream = tokenizer.streamDecoder();
    expect([0xc3, 300, 0xa9].map((id) => stream.push(id))).toEqual(["", "", "é"]);
  });

  it.each([-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY])("%d is no token", (id) => {
    expect(() => tokenizer.decode([65, id])).toThrow(ByteDataError);
    expect(() => tokenizer.streamDecoder().push(id)).toThrow(`${id} is no token`);
  });
});
