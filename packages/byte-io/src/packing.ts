import { ByteDataError } from "./errors.js";

/** Rows of tokens with the id of the document each belongs to. */
export interface PackedRows {
  /** [rows][length] */
  readonly tokens: Int32Array[];
  /** [rows][length], -1 where there is padding */
  readonly segments: Int32Array[];
}

/**
 * Packs documents into rows of one length: each goes into the first row with room for it (first fit, in the given order). A document
 * longer than a row is cut into pieces, which count as documents of their own.
 * @param length - tokens per row, at least 1
 */
export function packDocuments(documents: readonly ArrayLike<number>[], length: number, padId = 0): PackedRows {
  if (!Number.isInteger(length) || length < 1)
    throw new ByteDataError(`packDocuments: length ${length} is not a positive integer`);
  const tokens: Int32Array[] = [];
  const segments: Int32Array[] = [];
  const used: number[] = [];
  const pieces = documents.flatMap((d) =>
    Array.from(
      { length: Math.ceil(d.length / length) },
      (_, i) => Array.prototype.slice.call(d, i * length, (i + 1) * length) as number[],
    ),
  );
  for (const [id, piece] of pieces.entries()) {
    let row = used.findIndex((n) => n + piece.length <= length);
    if (row < 0) {
      row = tokens.length;
      tokens.push(new Int32Array(length).fill(padId));
      segments.push(new Int32Array(length).fill(-1));
      used.push(0);
    }
    tokens[row]!.set(piece, used[row]!);
    segments[row]!.fill(id, used[row]!, used[row]! + piece.length);
    used[row]! += piece.length;
  }
  return { tokens, segments };
}
