import { open } from "node:fs/promises";
import { CheckpointError } from "@mamba-ts/backend";
import { type ByteReader, checkRange } from "../reader.js";

/** A file, read by ranges; it stays open until `close`. */
export async function fileReader(path: string): Promise<ByteReader> {
  const file = await open(path, "r").catch((cause: NodeJS.ErrnoException) => {
    throw new CheckpointError(
      cause.code === "ENOENT" ? `${path} does not exist` : `${path} cannot be opened: ${cause.message}`,
      { cause },
    );
  });
  const stat = await file.stat();
  if (!stat.isFile()) {
    await file.close();
    throw new CheckpointError(`${path} is no file`);
  }
  return {
    name: path,
    size: stat.size,
    async read(offset, length, signal) {
      signal?.throwIfAborted();
      checkRange(path, stat.size, offset, length);
      const bytes = new Uint8Array(length);
      let done = 0;
      while (done < length) {
        const { bytesRead } = await file.read(bytes, done, length - done, offset + done);
        if (bytesRead === 0)
          throw new CheckpointError(
            `${path} is truncated: bytes ${offset} to ${offset + length} of a file of ${stat.size}`,
          );
        done += bytesRead;
      }
      return bytes;
    },
    close: () => file.close(),
  };
}

/** Opens a file, which is closed if `open` fails. */
export async function openFile<T>(path: string, open: (reader: ByteReader) => Promise<T>): Promise<T> {
  const reader = await fileReader(path);
  return open(reader).catch(async (error: unknown) => {
    await reader.close();
    throw error;
  });
}
