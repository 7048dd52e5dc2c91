import { open } from "node:fs/promises";
import { ByteDataError } from "./errors.js";
import { type ByteSource, expectRange } from "./source.js";

/**
 * A file, read by position. If the file changes size or is written to while it is read, the next read rejects with ByteDataError: a
 * training run must see one corpus, not two.
 */
export async function fileSource(path: string): Promise<ByteSource> {
  const file = await open(path, "r").catch((cause: NodeJS.ErrnoException) => {
    throw new ByteDataError(
      cause.code === "ENOENT" ? `${path} does not exist` : `${path} cannot be opened: ${cause.message}`,
      undefined,
      { cause },
    );
  });
  const first = await file.stat();
  if (!first.isFile()) {
    await file.close();
    throw new ByteDataError(`${path} is no file`);
  }
  return {
    name: path,
    size: first.size,
    async read(offset, length) {
      expectRange(path, first.size, offset, length);
      const bytes = new Uint8Array(length);
      let done = 0;
      while (done < length) {
        const { bytesRead } = await file.read(bytes, done, length - done, offset + done);
        if (bytesRead === 0) break;
        done += bytesRead;
      }
      const now = await file.stat();
      if (done < length || now.size !== first.size || now.mtimeMs !== first.mtimeMs)
        throw new ByteDataError(
          `${path} changed while it was read: ${first.size} bytes before, ${now.size} now`,
          "copy it, and train on the copy",
        );
      return bytes;
    },
    close: () => file.close(),
  };
}
