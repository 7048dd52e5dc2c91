import { randomBytes } from "node:crypto";
import { type FileHandle, mkdir, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { CheckpointError } from "@mamba-ts/backend";

/**
 * Writes a file whole or not at all: to a temporary name beside it, flushed to the disk, then renamed. On an error or an abort the
 * temporary file is removed and what was there before stays.
 */
export async function atomicWrite(
  path: string,
  parts: AsyncIterable<Uint8Array> | Iterable<Uint8Array> | Uint8Array | string,
  signal?: AbortSignal,
): Promise<void> {
  signal?.throwIfAborted();
  const content =
    typeof parts === "string" ? [new TextEncoder().encode(parts)] : parts instanceof Uint8Array ? [parts] : parts;
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}.tmp`);
  let file: FileHandle | undefined;
  try {
    await mkdir(dirname(path), { recursive: true });
    file = await open(temporary, "wx");
    for await (const part of content) {
      signal?.throwIfAborted();
      await file.writeFile(part);
    }
    await file.sync();
    await file.close();
    file = undefined;
    await rename(temporary, path);
  } catch (cause) {
    await file?.close().catch(() => {});
    await rm(temporary, { force: true }).catch(() => {});
    throw writeError(path, cause);
  }
}

/** What went wrong in the system while a file was written, as a CheckpointError naming it; other errors as they are. */
export function writeError(path: string, cause: unknown): unknown {
  const code = (cause as NodeJS.ErrnoException | null)?.code;
  if (code === undefined || !/^E[A-Z]+$/.test(code)) return cause;
  const full = code === "ENOSPC" || code === "EDQUOT" || code === "EFBIG";
  return new CheckpointError(`${path} could not be written: ${full ? "the disk is full" : (cause as Error).message}`, {
    hint: full ? "free some space; the previous file is untouched" : undefined,
    cause,
  });
}
