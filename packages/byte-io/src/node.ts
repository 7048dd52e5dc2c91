import { type FileHandle, open, stat } from "node:fs/promises";
import { ByteDataError } from "./errors.js";
import { type ByteSource, changed, expectRange } from "./source.js";

/**
 * A file, read by position. If it changes size or is written to while it is open, the next read rejects with ByteDataError: a
 * training run must see one corpus, not two. A file that is replaced by another of the same name is read on as it was.
 */
export async function fileSource(path: string): Promise<ByteSource> {
  const file = await openFile(path);
  const first = await file.stat();
  let isClosed = false;
  return {
    name: path,
    size: first.size,
    async read(offset, length) {
      expectRange(path, first.size, offset, length);
      if (isClosed) throw new ByteDataError(`${path} is closed`, undefined, { code: "invalid-argument" });
      const bytes = new Uint8Array(length);
      let done = 0;
      const now = await readFully().catch((cause: Error) => {
        throw new ByteDataError(`${path} cannot be read: ${cause.message}`, undefined, { cause });
      });
      if (done < length || now.size !== first.size || now.mtimeMs !== first.mtimeMs)
        throw changed(path, first.size, now.size);
      return bytes;

      async function readFully() {
        while (done < length) {
          const { bytesRead } = await file.read(bytes, done, length - done, offset + done);
          if (bytesRead === 0) break;
          done += bytesRead;
        }
        return file.stat();
      }
    },
    async close() {
      isClosed = true;
      await file.close();
    },
  };
}

async function openFile(path: string): Promise<FileHandle> {
  const fail = (cause: NodeJS.ErrnoException): never => {
    const why = cause.code === "ENOENT" ? "does not exist" : `cannot be opened: ${cause.message}`;
    throw new ByteDataError(`${path} ${why}`, undefined, { cause });
  };
  // Before it is opened: opening a pipe would wait for its writer.
  const found = await stat(path).catch(fail);
  if (!found.isFile()) throw new ByteDataError(`${path} is not a file`);
  return open(path, "r").catch(fail);
}
