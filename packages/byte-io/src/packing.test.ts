import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ByteDataError } from "./errors.js";
import { type PackedRows, packDocuments } from "./packing.js";

const anyDocuments = fc.array(fc.array(fc.nat(255), { maxLength: 12 }), { maxLength: 20 });
const anyLength = fc.integer({ min: 1, max: 9 });
const strategies = ["first-fit", "sequential"] as const;

/** The documents of packed rows, by reading the rows in order. */
function unpack({ tokens, segments }: PackedRows, count: number): number[][] {
  const documents = Array.from({ length: count }, (): number[] => []);
  tokens.forEach((row, r) => {
    row.forEach((token, t) => {
      const segment = segments[r]![t]!;
      if (segment >= 0) documents[segment]!.push(token);
    });
  });
  return documents;
}

/** First fit by trying every row: the number of tokens in each. */
function slowFirstFit(sizes: readonly number[], length: number): number[] {
  const rows: number[] = [];
  for (const size of sizes) {
    let first = 0;
    for (let left = size; left > 0; left -= length) {
      const piece = Math.min(left, length);
      let row = first;
      while (row < rows.length && rows[row]! + piece > length) row++;
      rows[row] = (rows[row] ?? 0) + piece;
      first = row + 1;
    }
  }
  return rows;
}

describe("packDocuments", () => {
  it("puts each document into the first row with room for it", () => {
    expect(packDocuments([[1, 2, 3], [4, 5], [6], [7, 8]], 4)).toEqual({
      tokens: [Int32Array.of(1, 2, 3, 6), Int32Array.of(4, 5, 7, 8)],
      segments: [Int32Array.of(0, 0, 0, 2), Int32Array.of(1, 1, 3, 3)],
    });
  });

  it("cuts documents where rows end, if sequential", () => {
    expect(packDocuments([[1, 2, 3], [4, 5], [], [6, 7]], 4, { strategy: "sequential", padId: 9 })).toEqual({
      tokens: [Int32Array.of(1, 2, 3, 4), Int32Array.of(5, 6, 7, 9)],
      segments: [Int32Array.of(0, 0, 0, 1), Int32Array.of(1, 3, 3, -1)],
    });
  });

  it("cuts what is longer than a row, and pads", () => {
    expect(packDocuments([Uint8Array.of(1, 2, 3, 4, 5), [6, 7]], 3, { padId: -7 })).toEqual({
      tokens: [Int32Array.of(1, 2, 3), Int32Array.of(4, 5, -7), Int32Array.of(6, 7, -7)],
      segments: [Int32Array.of(0, 0, 0), Int32Array.of(0, 0, -1), Int32Array.of(1, 1, -1)],
    });
  });

  it("never runs back in a document that is cut, though an earlier row has room for the rest", () => {
    expect(packDocuments([[7], [1, 2, 3, 4], [8]], 3).tokens.map((row) => [...row])).toEqual([
      [7, 8, 0],
      [1, 2, 3],
      [4, 0, 0],
    ]);
  });

  it.each(strategies)("loses no token and no order, and has padding at the ends of rows only: %s", (strategy) => {
    fc.assert(
      fc.property(anyDocuments, anyLength, (documents, length) => {
        const packed = packDocuments(documents, length, { strategy, padId: 99 });
        expect(unpack(packed, documents.length)).toEqual(documents);
        packed.segments.forEach((row, r) => {
          expect(row).toHaveLength(length);
          const used = row.indexOf(-1) < 0 ? length : row.indexOf(-1);
          expect(used).toBeGreaterThan(0);
          expect([...row.subarray(used)]).toEqual(new Array(length - used).fill(-1));
          expect([...packed.tokens[r]!.subarray(used)]).toEqual(new Array(length - used).fill(99));
          // A document is in one piece within a row.
          const changes = row.subarray(0, used).filter((segment, t) => t === 0 || segment !== row[t - 1]);
          expect(new Set(changes).size).toBe(changes.length);
        });
      }),
    );
  });

  it("is first fit, as a search through all rows finds it", () => {
    fc.assert(
      fc.property(anyDocuments, anyLength, (documents, length) => {
        const { segments } = packDocuments(documents, length);
        const sizes = documents.map((document) => document.length);
        expect(segments.map((row) => row.filter((id) => id >= 0).length)).toEqual(slowFirstFit(sizes, length));
      }),
    );
  });

  it("sequential rows are full but for the last", () => {
    fc.assert(
      fc.property(anyDocuments, anyLength, (documents, length) => {
        const { tokens, segments } = packDocuments(documents, length, { strategy: "sequential" });
        expect(tokens).toHaveLength(Math.ceil(documents.flat().length / length));
        for (const row of segments.slice(0, -1)) expect(row).not.toContain(-1);
      }),
    );
  });

  it("packs a hundred thousand documents without trying every row for each", () => {
    const documents = Array.from({ length: 100_000 }, (_, i) => new Uint8Array((i * 7919) % 64));
    const { segments } = packDocuments(documents, 64);
    const total = documents.reduce((sum, document) => sum + document.length, 0);
    expect(segments.reduce((sum, row) => sum + row.filter((id) => id >= 0).length, 0)).toBe(total);
    expect(segments.length).toBeLessThan((1.1 * total) / 64);
  });

  it("makes no rows of nothing, and wants a length", () => {
    for (const strategy of strategies)
      expect(packDocuments([[], []], 4, { strategy })).toEqual({ tokens: [], segments: [] });
    for (const length of [0, -1, 1.5, Number.NaN]) expect(() => packDocuments([[1]], length)).toThrow(ByteDataError);
  });
});
