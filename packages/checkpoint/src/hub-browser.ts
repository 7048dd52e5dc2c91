/** What "./hub" is in a browser: files are fetched whole, checked, and kept in the Cache API (or a store of the caller's). */
import { DownloadError } from "@mamba-ts/backend";
import { describeFile, type HubOptions, headersOf, listRepository, neededFiles } from "./hub/remote.js";
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
  const { commit, files } = await listRepository(repo, options);
  const { always, weights } = neededFiles(repo, files);
  const load = (file: string): Promise<Blob> => fetchFile(repo, commit, file, cache, options);
  const json = async (file: string): Promise<unknown> =>
    always.includes(file) ? (JSON.parse(await (await load(file)).text()) as unknown) : undefined;
  const open = async (file: string): Promise<TensorSource> =>
    openSafetensors(blobReader(await load(file), `${repo}/${file}`));
  const config = await json("config.json");
  const tokenizer = await json("tokenizer.json");
  return {
    config,
    source: weights.endsWith(".index.json")
      ? await openSharded(`${repo}/${weights}`, JSON.parse(await (await load(weights)).text()), open)
      : weights.endsWith(".bin")
        ? await openBin(await load(weights), `${repo}/${weights}`)
        : await open(weights),
    tokenizer:
      tokenizer === undefined ? undefined : { json: tokenizer, config: (await json("tokenizer_config.json")) ?? {} },
  };
}

async function openBin(blob: Blob, name: string): Promise<TensorSource> {
  const { openPytorch } = await import("./pytorch.js");
  return openPytorch(blobReader(blob, name));
}

async function fetchFile(
  repo: string,
  commit: string,
  file: string,
  cache: CacheStore | undefined,
  options: HubBrowserOptions,
): Promise<Blob> {
  const name = `${repo}/${file}`;
  const { url, size, etag } = await describeFile(repo, commit, file, options);
  const kept = await cache?.match(url);
  if (kept !== undefined) {
    const blob = await kept.blob();
    if (blob.size === size) return blob;
  }
  const { fetch: request = fetch, signal, onDownload } = options;
  const response = await request(url, { headers: headersOf(options), ...(signal === undefined ? {} : { signal }) });
  if (!response.ok || response.body === null)
    throw new DownloadError(`${name}: the server answered ${response.status}`);
  const parts: BlobPart[] = [];
  let loaded = 0;
  const body = response.body.getReader();
  for (let part = await body.read(); !part.done; part = await body.read()) {
    parts.push(part.value as Uint8Array<ArrayBuffer>);
    loaded += part.value.length;
    onDownload?.({ file: name, loaded, total: size });
  }
  const blob = new Blob(parts);
  if (blob.size !== size) throw new DownloadError(`${name}: ${blob.size} bytes came, ${size} were promised`);
  await verify(blob, name, etag);
  // A full store is no reason to fail: the model is here.
  await cache?.put(url, new Response(blob)).catch(() => {});
  return blob;
}

async function verify(blob: Blob, name: string, etag: string): Promise<void> {
  const isSha256 = /^[0-9a-f]{64}$/.test(etag);
  if (!isSha256 || globalThis.crypto?.subtle === undefined) return;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
  const got = Array.from(digest, (b) => b.toString(16).padStart(2, "0")).join("");
  if (got !== etag)
    throw new DownloadError(`${name}: its hash is ${got}, not ${etag}`, {
      hint: "the download was damaged on the way; try again",
    });
}
