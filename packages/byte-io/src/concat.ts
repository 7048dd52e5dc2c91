import { type ByteSource, expectRange } from "./source.js";

/** Several documents as one source, with the places where one ends and the next begins. */
export interface ConcatenatedSource extends ByteSource {
  /** The offset of each document; one without bytes shares it with its successor. */
  readonly starts: readonly number[];
  /** The number of the document that each of `length` bytes from `offset` on belongs to: `segments` of a training sequence. */
  segments(offset: number, length: number): Int32Array;
}

/** Several sources, one directly after the other. Closing it closes them all. */
export function concatSources(sources: readonly ByteSource[]): ConcatenatedSource {
  const starts: number[] = [];
  let size = 0;
  for (const source of sources) {
    starts.push(size);
    size += source.size;
  }
  const name = nameOf(sources);

  /** The parts of the documents that make up a range, in order. */
  function* parts(offset: number, length: number): Generator<{ document: number; from: number; to: number }> {
    const end = offset + length;
    for (let document = lastAtMost(starts, offset); document < sources.length && starts[document]! < end; document++) {
      const from = Math.max(offset, starts[document]!);
      const to = Math.min(end, starts[document]! + sources[document]!.size);
      if (from < to) yield { document, from, to };
    }
  }

  return {
    name,
    size,
    starts,
    async read(offset, length) {
      expectRange(name, size, offset, length);
      const out = new Uint8Array(length);
      for (const { document, from, to } of parts(offset, length)) {
        const bytes = await sources[document]!.read(from - starts[document]!, to - from);
        out.set(bytes, from - offset);
      }
      return out;
    },
    segments(offset, length) {
      expectRange(name, size, offset, length);
      const out = new Int32Array(length);
      for (const { document, from, to } of parts(offset, length)) out.fill(document, from - offset, to - offset);
      return out;
    },
    async close() {
      await Promise.all(sources.map((source) => source.close()));
    },
  };
}

/** Short enough for a message, however many there are. */
function nameOf(sources: readonly ByteSource[]): string {
  if (sources.length === 0) return "no sources";
  const names = sources.slice(0, 3).map((source) => source.name);
  return names.join(" + ") + (sources.length > 3 ? ` + ${sources.length - 3} more` : "");
}

/** The index of the last number of an ascending list that is at most `value`; 0 if there is none. */
function lastAtMost(ascending: readonly number[], value: number): number {
  let [low, high] = [0, ascending.length];
  while (low + 1 < high) {
    const middle = (low + high) >>> 1;
    if (ascending[middle]! <= value) low = middle;
    else high = middle;
  }
  return low;
}
