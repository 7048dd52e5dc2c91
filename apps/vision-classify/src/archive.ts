import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { gunzipSync } from "node:zlib";
import { DataError } from "@mamba-ts/backend";

/** The files of a tar archive (plain, .gz, or .xz with the `xz` command) by their paths. Rejects with DataError for a damaged one. */
export async function readArchive(path: string): Promise<ReadonlyMap<string, Uint8Array>> {
  const fail = (cause: Error): never => {
    throw new DataError(`${path} cannot be unpacked: ${cause.message}`, { cause });
  };
  const tar = path.endsWith(".xz")
    ? await unxz(path).catch(fail)
    : await readFile(path)
        .then((bytes) => (path.endsWith("gz") ? gunzipSync(bytes) : bytes))
        .catch(fail);
  return untar(tar, path);
}

/** Node has no xz of its own. */
async function unxz(path: string): Promise<Buffer> {
  const child = spawn("xz", ["-dc", "--", path], { stdio: ["ignore", "pipe", "pipe"] });
  const parts: Buffer[] = [];
  let said = "";
  child.stdout.on("data", (part: Buffer) => parts.push(part));
  child.stderr.on("data", (part: Buffer) => {
    said += part.toString();
  });
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(said.trim() || `xz ended with ${code}`);
  return Buffer.concat(parts);
}

/** Blocks of 512 bytes (POSIX.1-1988): a header with name, size in octal and kind, then the content. */
function untar(tar: Uint8Array, path: string): ReadonlyMap<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  const text = (at: number, length: number): string =>
    Buffer.from(tar.subarray(at, at + length))
      .toString("latin1")
      .replace(/\0.*$/s, "");
  let at = 0;
  while (at + 512 <= tar.length && tar[at] !== 0) {
    const size = Number.parseInt(text(at + 124, 12), 8);
    if (!(size >= 0) || at + 512 + size > tar.length) throw new DataError(`${path} is no tar archive, or is cut short`);
    const kind = text(at + 156, 1);
    const prefix = text(at + 257, 5) === "ustar" ? text(at + 345, 155) : "";
    const name = `${prefix === "" ? "" : `${prefix}/`}${text(at, 100)}`.replace(/^\.\//, "");
    if (kind === "" || kind === "0") files.set(name, tar.subarray(at + 512, at + 512 + size));
    at += 512 + 512 * Math.ceil(size / 512);
  }
  return files;
}
