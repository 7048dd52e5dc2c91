/** What "./hub" is in a browser: files are fetched whole, checked, and kept in the Cache API (or a store of the caller's). */
import { CheckpointError, DownloadError } from "@mamba-ts/backend";
import {
  DEFAULT_STALL_TIMEOUT,
  describeFile,
  type HubOptions,
  headersOf,
  listRepository,
  neededFiles,
  type RemoteFile,
  type RemoteRepository,
} from "./hub/remote.js";
import { blobReader } from "./reader.js";
import { openSafetensors } from "./safetensors.js";
import { openSharded } from "./sharded.js";
import type { Checkpoint, TensorSource } from "./source.js";

export type { DownloadProgress, HubOptions } from "./hub/remote.js";

/** Where downloaded files are kept: a `Cache` is one. */
export interface CacheStore {
  match(url: string): Promise<Response | undefined>;
  put(url: string, response: Response): Promise<void>;
}

export interface HubBrowserOptions extends HubOptions {
  /** The Cache API by default, where the page may use it; `null` keeps nothing. */
  readonly cache?: CacheStore | null;
}

/** Downloads and opens a model. */
export async function openFromHub(repo: string, options: HubBrowserOptions = {}): Promise<Checkpoint> {
  const cache =
    options.cache === undefined
      ? await globalThis.caches?.open("mamba-ts").catch(() => undefined)
      : (options.cache ?? undefined);
  const remote = await listRepository(repo, options);
  const { always, weights } = neededFiles(repo, remote.files);
  const load = (file: string): Promise<Blob> => fetchFile(repo, remote, file, cache, options);
  const parse = async (file: string): Promise<unknown> => parseJson(`${repo}/${file}`, await load(file));
  const json = async (file: string): Promise<unknown> => (always.includes(file) ? parse(file) : undefined);
  const open = async (file: string): Promise<TensorSource> =>
    openSafetensors(blobReader(await load(file), `${repo}/${file}`));
  const config = await json("config.json");
  const tokenizer = await json("tokenizer.json");
  return {
    config,
    source: weights.endsWith(".index.json")
      ? await openSharded(`${repo}/${weights}`, await parse(weights), open)
      : weights.endsWith(".bin")
        ? await openBin(await load(weights), `${repo}/${weights}`)
        : await open(weights),
    tokenizer:
      tokenizer === undefined ? undefined : { json: tokenizer, config: (await json("tokenizer_config.json")) ?? {} },
  };
}

async function parseJson(name: string, blob: Blob): Promise<unknown> {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(await blob.arrayBuffer())) as unknown;
  } catch (cause) {
    throw new CheckpointError(`${name} is not JSON: ${(cause as Error).message}`, { cause });
  }
}

async function openBin(blob: Blob, name: string): Promise<TensorSource> {
  const { openPytorch } = await import("./pytorch.js");
  return openPytorch(blobReader(blob, name));
}

async function fetchFile(
  repo: string,
  repository: RemoteRepository,
  file: string,
  cache: CacheStore | undefined,
  options: HubBrowserOptions,
): Promise<Blob> {
  const name = `${repo}/${file}`;
  const remote = await describeFile(repo, repository, file, options);
  const kept = await cache?.match(remote.url);
  if (kept !== undefined) {
    const blob = await kept.blob();
    if (blob.size === remote.size) return blob;
  }
  const { attempts = 5, signal } = options;
  let failure: unknown;
  for (let attempt = 0; attempt < attempts; attempt++) {
    if (attempt > 0) await new Promise((resolve) => setTimeout(resolve, Math.min(8000, 250 * 2 ** attempt)));
    signal?.throwIfAborted();
    try {
      const blob = await fetchWhole(name, remote, options);
      await verify(blob, name, remote);
      // A full store is no reason to fail: the model is here.
      await cache?.put(remote.url, new Response(blob)).catch(() => {});
      return blob;
    } catch (error) {
      signal?.throwIfAborted();
      failure = error;
    }
  }
  throw failure;
}

async function fetchWhole(name: string, { url, size }: RemoteFile, options: HubOptions): Promise<Blob> {
  const { fetch: request = fetch, signal, stallTimeout = DEFAULT_STALL_TIMEOUT, onDownload } = options;
  const stall = new AbortController();
  const fail = (): void => stall.abort(new DownloadError(`${name}: nothing came for ${stallTimeout} ms`));
  let timer = setTimeout(fail, stallTimeout);
  const parts: BlobPart[] = [];
  let loaded = 0;
  try {
    const response = await request(url, {
      headers: headersOf(options),
      signal: signal === undefined ? stall.signal : AbortSignal.any([signal, stall.signal]),
    });
    if (!response.ok || response.body === null) {
      await response.body?.cancel();
      throw new DownloadError(`${name}: the server answered ${response.status}`);
    }
    const body = response.body.getReader();
    for (let part = await body.read(); !part.done; part = await body.read()) {
      clearTimeout(timer);
      timer = setTimeout(fail, stallTimeout);
      parts.push(part.value as Uint8Array<ArrayBuffer>);
      loaded += part.value.length;
      onDownload?.({ file: name, loaded, total: size });
    }
  } catch (cause) {
    if (stall.signal.aborted) throw stall.signal.reason;
    if (cause instanceof DownloadError) throw cause;
    const { message } = cause as Error;
    throw new DownloadError(`${name}: the connection broke after ${loaded} of ${size} bytes: ${message}`, { cause });
  } finally {
    clearTimeout(timer);
  }
  return new Blob(parts);
}

async function verify(blob: Blob, name: string, { size, etag }: RemoteFile): Promise<void> {
  if (blob.size !== size) throw new DownloadError(`${name}: ${blob.size} bytes came, ${size} were promised`);
  const isSha256 = /^[0-9a-f]{64}$/.test(etag);
  if ((!isSha256 && !/^[0-9a-f]{40}$/.test(etag)) || globalThis.crypto?.subtle === undefined) return;
  const hashed = isSha256 ? blob : new Blob([`blob ${size}\0`, blob]); // git's way of naming a file
  const digest = new Uint8Array(await crypto.subtle.digest(isSha256 ? "SHA-256" : "SHA-1", await hashed.arrayBuffer()));
  const got = Array.from(digest, (b) => b.toString(16).padStart(2, "0")).join("");
  if (got !== etag)
    throw new DownloadError(`${name}: its hash is ${got}, not ${etag}`, {
      hint: "the download was damaged on the way; try again",
    });
}
