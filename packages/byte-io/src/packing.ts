import { expectInteger } from "./errors.js";

/** Rows of tokens with the number of the document that each token belongs to. */
export interface PackedRows {
  /** [rows][length] */
  readonly tokens: Int32Array[];
  /** [rows][length]: the document's place in the list, -1 for padding. */
  readonly segments: Int32Array[];
}

export interface PackOptions {
  /**
   * - `first-fit`, the default: each document goes whole into the first row with room for it; only what is longer than a row is
   *   cut, and each piece goes into a row after that of the piece before, so that rows in order never run back in a document.
   * - `sequential`: one document after the other, cut where a row ends and continued in the next: no padding but at the very end.
   */
  readonly strategy?: "first-fit" | "sequential";
  /** The token of padding, 0 by default. */
  readonly padId?: number;
}

/**
 * Packs documents into rows of one length. A row never holds two pieces of one document apart, so a change of segment is always a
 * change of document. Documents without tokens leave no trace.
 * @param length - tokens per row, at least 1
 */
export function packDocuments(
  documents: readonly ArrayLike<number>[],
  length: number,
  { strategy = "first-fit", padId = 0 }: PackOptions = {},
): PackedRows {
  expectInteger("packDocuments: length", length, 1);
  const [tokens, segments]: [Int32Array[], Int32Array[]] = [[], []];
  const used: number[] = []; // tokens in each row
  const firstFor = new Map<number, number>(); // by size: no row before this one has room. Rooms only shrink, so it only grows.
  for (const [document, { length: size }] of documents.entries()) {
    let row = -1; // of the piece before
    for (let from = 0; from < size; ) {
      let piece = Math.min(size - from, length);
      if (strategy === "sequential") {
        row = Math.max(0, used.length - 1);
        if (used[row] === length) row++;
        piece = Math.min(piece, length - (used[row] ?? 0));
      } else {
        const start = firstFor.get(piece) ?? 0;
        const isCut = row >= start; // then rows that are passed over may have room for others
        row = Math.max(row + 1, start);
        while ((used[row] ?? 0) + piece > length) row++;
        if (!isCut) firstFor.set(piece, row);
      }
      tokens[row] ??= new Int32Array(length).fill(padId);
      segments[row] ??= new Int32Array(length).fill(-1);
      const at = used[row] ?? 0;
      for (let i = 0; i < piece; i++) tokens[row]![at + i] = documents[document]![from + i]!;
      segments[row]!.fill(document, at, at + piece);
      used[row] = at + piece;
      from += piece;
    }
  }
  return { tokens, segments };
}
