import { ByteDataError } from "./errors.js";

/** Bytes that may be larger than memory, read by position. */
export interface ByteSource {
  /** For messages. */
  readonly name: string;
  readonly size: number;
  /** Exactly `length` bytes from `offset` on; rejects with ByteDataError if the data changed or ended. */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

export function memorySource(bytes: Uint8Array, name = "memory"): ByteSource {
  return {
    name,
    size: bytes.length,
    async read(offset, length) {
      expectRange(name, bytes.length, offset, length);
      return bytes.subarray(offset, offset + length);
    },
    async close() {},
  };
}

/** A Blob or File of a page. */
export function blobSource(blob: Blob, name = (blob as Partial<File>).name ?? "blob"): ByteSource {
  return {
    name,
    size: blob.size,
    async read(offset, length) {
      expectRange(name, blob.size, offset, length);
      return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
    },
    async close() {},
  };
}

/** Several sources, one after the other. */
export function concatSources(sources: readonly ByteSource[]): ByteSource {
  const starts: number[] = [];
  let size = 0;
  for (const source of sources) {
    starts.push(size);
    size += source.size;
  }
  const name = sources.map((s) => s.name).join(" + ");
  return {
    name,
    size,
    async read(offset, length) {
      expectRange(name, size, offset, length);
      const out = new Uint8Array(length);
      for (const [i, source] of sources.entries()) {
        const from = Math.max(offset, starts[i]!);
        const to = Math.min(offset + length, starts[i]! + source.size);
        if (from < to) out.set(await source.read(from - starts[i]!, to - from), from - offset);
      }
      return out;
    },
    close: async () => {
      await Promise.all(sources.map((s) => s.close()));
    },
  };
}

export function expectRange(name: string, size: number, offset: number, length: number): void {
  if (!(offset >= 0 && length >= 0 && offset + length <= size))
    throw new ByteDataError(`${name}: bytes ${offset} to ${offset + length} of ${size} were asked for`);
}

/** Throws ByteDataError unless there are at least `length` bytes. */
export function expectSize(source: ByteSource, length: number): void {
  if (source.size === 0) throw new ByteDataError(`${source.name} is empty`);
  if (source.size < length)
    throw new ByteDataError(
      `${source.name} has ${source.size} bytes, fewer than the ${length} of one sequence`,
      "use a shorter sequence length, or more text",
    );
}
