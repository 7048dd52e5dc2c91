import { ByteDataError, expectInteger } from "./errors.js";

/** Bytes that may be larger than memory, read by position. */
export interface ByteSource {
  /** For messages. */
  readonly name: string;
  readonly size: number;
  /** Exactly `length` bytes from `offset` on, the caller's own; rejects with ByteDataError if the data changed or ended. */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Bytes in memory, which are not copied until they are read. */
export function memorySource(bytes: Uint8Array, name = "memory"): ByteSource {
  const size = bytes.length;
  return {
    name,
    size,
    async read(offset, length) {
      expectRange(name, size, offset, length);
      if (bytes.length !== size) throw changed(name, size, bytes.length); // the buffer was resized, or moved to a worker
      return bytes.slice(offset, offset + length);
    },
    async close() {},
  };
}

/** A Blob or File of a page. Browsers refuse to read a file that changed on disk after it was chosen: ByteDataError, too. */
export function blobSource(blob: Blob, name = (blob as Partial<File>).name ?? "blob"): ByteSource {
  const { size } = blob;
  return {
    name,
    size,
    async read(offset, length) {
      expectRange(name, size, offset, length);
      const buffer = await blob
        .slice(offset, offset + length)
        .arrayBuffer()
        .catch((cause: unknown) => {
          throw new ByteDataError(`${name} cannot be read any more`, "choose the file again", { cause });
        });
      if (buffer.byteLength !== length) throw changed(name, size, offset + buffer.byteLength);
      return new Uint8Array(buffer);
    },
    async close() {},
  };
}

/** The error for data that is not what it was when it was opened. */
export function changed(name: string, before: number, now: number): ByteDataError {
  return new ByteDataError(
    `${name} changed while it was read: ${before} bytes before, ${now} now`,
    "copy it, and train on the copy",
  );
}

/** Throws ByteDataError unless the bytes are there. */
export function expectRange(name: string, size: number, offset: number, length: number): void {
  expectInteger(`${name}: offset`, offset, 0);
  expectInteger(`${name}: length`, length, 0);
  if (offset + length > size)
    throw new ByteDataError(`${name}: bytes ${offset} to ${offset + length} of ${size} were asked for`, undefined, {
      code: "invalid-argument",
    });
}

/** Throws ByteDataError unless there are at least `length` bytes. */
export function expectSize({ name, size }: ByteSource, length: number): void {
  if (size === 0) throw new ByteDataError(`${name} is empty`);
  if (size < length)
    throw new ByteDataError(
      `${name} has ${size} bytes, fewer than the ${length} of one sequence`,
      "use a shorter sequence length, or more text",
    );
}
