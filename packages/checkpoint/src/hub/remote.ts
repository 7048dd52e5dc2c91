import { DownloadError } from "@mamba-ts/backend";

export interface HubOptions {
  /** A branch, tag or commit; "main" by default. */
  readonly revision?: string;
  /** For private repositories. */
  readonly token?: string;
  readonly endpoint?: string;
  readonly fetch?: typeof fetch;
  readonly signal?: AbortSignal;
  readonly onDownload?: (progress: DownloadProgress) => void;
  /** Attempts per file; 5 by default. */
  readonly attempts?: number;
  /** A connection that brings nothing for so long is given up, in ms; 30,000 by default. */
  readonly stallTimeout?: number;
}

export const DEFAULT_STALL_TIMEOUT = 30_000;

export interface DownloadProgress {
  readonly file: string;
  readonly loaded: number;
  readonly total: number;
}

export interface RemoteRepository {
  readonly commit: string;
  readonly files: readonly string[];
  /** What the listing already says of files; `describeFile` asks for the rest. */
  readonly known: ReadonlyMap<string, Omit<RemoteFile, "url">>;
}

export interface RemoteFile {
  readonly url: string;
  readonly size: number;
  /** sha256 (64 digits) of files in large-file storage, git's blob hash (40 digits) of others. */
  readonly etag: string;
}

export function headersOf({ token }: HubOptions): Record<string, string> {
  return token === undefined ? {} : { authorization: `Bearer ${token}` };
}

export function endpointOf({ endpoint = "https://huggingface.co" }: HubOptions): string {
  return endpoint.replace(/\/$/, "");
}

async function get(what: string, url: string, options: HubOptions, init: RequestInit): Promise<Response> {
  const { fetch: request = fetch, signal, stallTimeout = DEFAULT_STALL_TIMEOUT } = options;
  const timeout = AbortSignal.timeout(stallTimeout);
  const response = await request(url, {
    ...init,
    headers: { ...headersOf(options), ...(init.headers as Record<string, string> | undefined) },
    signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
  }).catch((cause: unknown) => unreachable(what, signal, cause));
  if (response.ok || (response.status >= 300 && response.status < 400)) return response;
  await response.body?.cancel();
  const hint =
    response.status === 401 || response.status === 403
      ? "the repository may be private or gated: give a token"
      : response.status === 404
        ? "check the repository's name, the revision and the file"
        : undefined;
  throw new DownloadError(`${what}: the hub answered ${response.status}`, { hint });
}

function unreachable(what: string, signal: AbortSignal | undefined, cause: unknown): never {
  signal?.throwIfAborted();
  throw new DownloadError(`${what}: the hub cannot be reached: ${(cause as Error).message}`, {
    hint: "check the network, or use { offline: true } with what is cached",
    cause,
  });
}

/** The commit a revision stands for, and its files. */
export async function listRepository(repo: string, options: HubOptions): Promise<RemoteRepository> {
  const { revision = "main" } = options;
  const response = await get(
    repo,
    `${endpointOf(options)}/api/models/${repo}/revision/${encodeURIComponent(revision)}?blobs=true`,
    options,
    {},
  );
  const text = await response.text().catch((cause: unknown) => unreachable(repo, options.signal, cause));
  const { sha, siblings } = parseListing(text);
  if (typeof sha !== "string" || !/^[\w-]+$/.test(sha) || !Array.isArray(siblings))
    throw new DownloadError(`${repo}: the hub's answer is not understood`);
  const files: string[] = [];
  const known = new Map<string, Omit<RemoteFile, "url">>();
  for (const { rfilename: file, size, blobId, lfs } of siblings as Sibling[]) {
    if (typeof file !== "string") continue;
    if (file.split(/[\\/]/).includes("..") || file.startsWith("/"))
      throw new DownloadError(`${repo}: the hub lists ${file}, which is outside the repository`);
    files.push(file);
    const blob = lfs ? { size: lfs.size, etag: lfs.sha256 } : { size, etag: blobId };
    if (isBlob(blob)) known.set(file, blob);
  }
  return { commit: sha, files, known };
}

interface Sibling {
  readonly rfilename?: unknown;
  readonly size?: unknown;
  readonly blobId?: unknown;
  readonly lfs?: { readonly size?: unknown; readonly sha256?: unknown } | null;
}

function parseListing(text: string): { readonly sha?: unknown; readonly siblings?: unknown } {
  try {
    const body = JSON.parse(text) as { sha?: unknown; siblings?: unknown } | null;
    const isObject = (v: unknown): boolean => typeof v === "object" && v !== null;
    return isObject(body) && Array.isArray(body!.siblings) && body!.siblings.every(isObject) ? body! : {};
  } catch {
    return {};
  }
}

/** The etag becomes a file's name. */
function isBlob(blob: { readonly size: unknown; readonly etag: unknown }): blob is Omit<RemoteFile, "url"> {
  const { size, etag } = blob;
  return Number.isSafeInteger(size) && (size as number) >= 0 && typeof etag === "string" && /^\w[\w.-]*$/.test(etag);
}

/** What the hub says of one file. */
export async function describeFile(
  repo: string,
  { commit, known }: RemoteRepository,
  file: string,
  options: HubOptions,
): Promise<RemoteFile> {
  const url = `${endpointOf(options)}/${repo}/resolve/${commit}/${file.split("/").map(encodeURIComponent).join("/")}`;
  const blob = known.get(file);
  if (blob !== undefined) return { url, ...blob };
  const head = (at: string): Promise<Response> =>
    get(`${repo}/${file}`, at, options, {
      method: "HEAD",
      redirect: "manual",
      headers: { "accept-encoding": "identity" },
    });
  // The answer before the redirect to a store names the content's hash, the store does not. A redirect to another path of
  // the hub (a renamed repository) says nothing of the content.
  let response = await head(url);
  for (let i = 0; i < 5; i++) {
    const location = response.headers.get("location");
    if (response.ok || location === null || !/^\/(?!\/)/.test(location) || response.headers.has("x-linked-etag")) break;
    response = await head(new URL(location, url).href);
  }
  const etag = (response.headers.get("x-linked-etag") ?? response.headers.get("etag") ?? "")
    .replace(/^W\//, "")
    .replaceAll('"', "");
  const size = Number(response.headers.get("x-linked-size") ?? response.headers.get("content-length") ?? Number.NaN);
  if (!isBlob({ size, etag })) throw new DownloadError(`${repo}/${file}: the hub does not say its size and hash`);
  return { url, size, etag };
}

/** The files of a repository that a model is loaded from. */
export function neededFiles(
  repo: string,
  files: readonly string[],
): { readonly always: readonly string[]; readonly weights: string } {
  const weights = ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"].find((f) =>
    files.includes(f),
  );
  if (!files.includes("config.json") || weights === undefined)
    throw new DownloadError(`${repo} holds no config.json with model.safetensors or pytorch_model.bin`);
  return {
    always: ["config.json", "tokenizer.json", "tokenizer_config.json"].filter((f) => files.includes(f)),
    weights,
  };
}
