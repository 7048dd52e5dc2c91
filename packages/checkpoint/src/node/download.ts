import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, open, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { DownloadError } from "@mamba-ts/backend";
import { DEFAULT_STALL_TIMEOUT, type HubOptions, headersOf, type RemoteFile } from "../hub/remote.js";

/**
 * Downloads into `path`: to `path.incomplete` first, resuming what an earlier attempt left there; checked for length and hash; then renamed. What
 * stands under `path` is always whole.
 */
export async function downloadTo(path: string, name: string, file: RemoteFile, options: HubOptions): Promise<void> {
  const { attempts = 5, signal } = options;
  await mkdir(dirname(path), { recursive: true }).catch((cause: Error) => notWritten(name, cause));
  const partial = `${path}.incomplete`;
  const lock = await acquire(`${path}.lock`, name, signal);
  try {
    if (await sizeOf(path).then((size) => size === file.size)) return;
    let failure: unknown;
    for (let attempt = 0; attempt < attempts; attempt++) {
      signal?.throwIfAborted();
      if (attempt > 0) await pause(Math.min(8000, 250 * 2 ** attempt), signal);
      try {
        await fetchRest(partial, name, file, options);
        await verify(partial, name, file);
        await rename(partial, path);
        return;
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof Error && permanent.has(error)) throw error;
        failure = error;
      }
    }
    throw failure;
  } finally {
    await lock();
  }
}

/** Errors that another attempt does not mend. */
const permanent = new WeakSet<Error>();

function permanently(error: DownloadError): DownloadError {
  permanent.add(error);
  return error;
}

async function sizeOf(path: string): Promise<number | undefined> {
  return stat(path).then(
    (s) => s.size,
    () => undefined,
  );
}

async function fetchRest(partial: string, name: string, { url, size }: RemoteFile, options: HubOptions): Promise<void> {
  const { fetch: request = fetch, signal, stallTimeout = DEFAULT_STALL_TIMEOUT, onDownload } = options;
  let have = (await sizeOf(partial)) ?? 0;
  if (have > size) {
    await rm(partial);
    have = 0;
  }
  if (have === size && have > 0) return;
  const stall = new AbortController();
  const stop = signal === undefined ? stall.signal : AbortSignal.any([signal, stall.signal]);
  const fail = (): void => stall.abort(new DownloadError(`${name}: nothing came for ${stallTimeout} ms`));
  let timer = setTimeout(fail, stallTimeout);
  let out: FileHandle | undefined;
  try {
    const response = await request(url, {
      headers: {
        ...headersOf(options),
        "accept-encoding": "identity",
        ...(have > 0 ? { Range: `bytes=${have}-` } : {}),
      },
      signal: stop,
    });
    if (!response.ok) {
      await response.body?.cancel();
      const error = new DownloadError(`${name}: the server answered ${response.status}`);
      const { status } = response;
      throw status >= 400 && status < 500 && status !== 408 && status !== 429 ? permanently(error) : error;
    }
    // A server that ignores the range sends the whole file again.
    if (response.status !== 206) have = 0;
    else if (!new RegExp(`^bytes ${have}-`).test(response.headers.get("content-range") ?? ""))
      throw new DownloadError(`${name}: the server sent another range than was asked for`);
    out = await open(partial, have === 0 ? "w" : "a").catch((cause: Error) => notWritten(name, cause));
    for await (const part of response.body as unknown as AsyncIterable<Uint8Array>) {
      clearTimeout(timer);
      timer = setTimeout(fail, stallTimeout);
      await out.writeFile(part).catch((cause: Error) => notWritten(name, cause));
      have += part.length;
      if (have > size) break;
      onDownload?.({ file: name, loaded: have, total: size });
    }
  } catch (cause) {
    if (stall.signal.aborted) throw stall.signal.reason;
    throw cause instanceof DownloadError
      ? cause
      : new DownloadError(`${name}: the connection broke after ${have} of ${size} bytes: ${(cause as Error).message}`, {
          cause,
        });
  } finally {
    clearTimeout(timer);
    await out?.close();
  }
  if (have < size) throw new DownloadError(`${name}: the connection ended after ${have} of ${size} bytes`);
}

function notWritten(name: string, cause: Error): never {
  throw permanently(new DownloadError(`${name}: it cannot be written: ${cause.message}`, { cause }));
}

/** A partial file that is wrong is of no use to the next attempt: it goes. */
async function verify(partial: string, name: string, { size, etag }: RemoteFile): Promise<void> {
  const have = await sizeOf(partial);
  const problem = have !== size ? `${have} bytes came, ${size} were promised` : await hashProblem(partial, size, etag);
  if (problem === undefined) return;
  await rm(partial, { force: true });
  throw new DownloadError(`${name}: ${problem}`, { hint: "the download was damaged on the way; try again" });
}

async function hashProblem(path: string, size: number, etag: string): Promise<string | undefined> {
  const isSha256 = /^[0-9a-f]{64}$/.test(etag);
  if (!isSha256 && !/^[0-9a-f]{40}$/.test(etag)) return undefined;
  const hash = createHash(isSha256 ? "sha256" : "sha1");
  if (!isSha256) hash.update(`blob ${size}\0`); // git's way of naming a file
  for await (const part of createReadStream(path)) hash.update(part as Uint8Array);
  const got = hash.digest("hex");
  return got === etag ? undefined : `its hash is ${got}, not ${etag}`;
}

/** One download of a file at a time, between processes too; a lock that nobody has renewed for a minute is taken over. */
async function acquire(path: string, name: string, signal: AbortSignal | undefined): Promise<() => Promise<void>> {
  for (;;) {
    signal?.throwIfAborted();
    try {
      const handle = await open(path, "wx");
      const renew = setInterval(() => void handle.utimes(new Date(), new Date()).catch(() => {}), 10_000);
      return async () => {
        clearInterval(renew);
        await handle.close();
        await rm(path, { force: true });
      };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") notWritten(name, error as Error);
      const age = await stat(path).then(
        (s) => Date.now() - s.mtimeMs,
        () => 0,
      );
      if (age > 60_000) await rm(path, { force: true });
      else await pause(100, signal);
    }
  }
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
