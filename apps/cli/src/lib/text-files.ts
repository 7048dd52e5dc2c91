import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { DataError, InvalidArgumentError } from "@mamba-ts/backend";
import { type ByteSource, concatSources, decodeBytes } from "@mamba-ts/byte-io";
import { fileSource } from "@mamba-ts/byte-io/node";

/** Bytes of a file as text. Throws DataError if they are not UTF-8. */
export function textOf(path: string, bytes: Uint8Array): string {
  try {
    return decodeBytes(bytes, { fatal: true });
  } catch (cause) {
    throw new DataError(`${path} is not UTF-8 text`, { hint: "convert it to UTF-8, as with iconv", cause });
  }
}

/** Opens files, and the .txt files of folders in order of name, as one text; files whose path ends in one of `except` are left out. */
export async function openTexts(paths: readonly string[], except: readonly string[] = []): Promise<ByteSource> {
  const files: string[] = [];
  for (const path of paths) {
    const isFolder = await stat(path).then(
      (s) => s.isDirectory(),
      () => false,
    );
    if (!isFolder) files.push(path);
    else for (const name of (await readdir(path)).sort()) if (name.endsWith(".txt")) files.push(join(path, name));
  }
  const used = files.filter((file) => !except.some((end) => file.endsWith(end)));
  if (used.length === 0) throw new InvalidArgumentError(`no text files in ${paths.join(", ")}`);
  const sources: ByteSource[] = [];
  try {
    for (const file of used) sources.push(await fileSource(file));
  } catch (error) {
    await Promise.all(sources.map((s) => s.close()));
    throw error;
  }
  return concatSources(sources);
}
