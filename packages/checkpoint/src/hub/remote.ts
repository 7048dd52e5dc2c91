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

export interface DownloadProgress {
  readonly file: string;
  readonly loaded: number;
  readonly total: number;
}

export interface RemoteRepository {
  readonly commit: string;
  readonly files: readonly string[];
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
  const { fetch: request = fetch, signal } = options;
  const response = await request(url, {
    ...init,
    headers: { ...headersOf(options), ...(init.headers as Record<string, string> | undefined) },
    ...(signal === undefined ? {} : { signal }),
  }).catch((cause: unknown) => {
    signal?.throwIfAborted();
    throw new DownloadError(`${what}: the hub cannot be reached: ${(cause as Error).message}`, {
      hint: "check the network, or use { offline: true } with what is cached",
      cause,
    });
  });
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

/** The commit a revision stands for, and its files. */
export async function listRepository(repo: string, options: HubOptions): Promise<RemoteRepository> {
  const { revision = "main" } = options;
  const response = await get(
    repo,
    `${endpointOf(options)}/api/models/${repo}/revision/${encodeURIComponent(revision)}`,
    options,
    {},
  );
  const body = (await response.json()) as { sha?: unknown; siblings?: { rfilename?: unknown }[] };
  if (typeof body.sha !== "string" || !/^[\w-]+$/.test(body.sha) || !Array.isArray(body.siblings))
    throw new DownloadError(`${repo}: the hub's answer is not understood`);
  const files = body.siblings.map((s) => s.rfilename).filter((f): f is string => typeof f === "string");
  for (const file of files)
    if (file.split(/[\\/]/).includes("..") || file.startsWith("/"))
      throw new DownloadError(`${repo}: the hub lists ${file}, which is outside the repository`);
  return { commit: body.sha, files };
}

/** What the hub says of one file. */
export async function describeFile(
  repo: string,
  commit: string,
  file: string,
  options: HubOptions,
): Promise<RemoteFile> {
  const url = `${endpointOf(options)}/${repo}/resolve/${commit}/${file.split("/").map(encodeURIComponent).join("/")}`;
  // The answer before the redirect names the content's hash; the store it redirects to does not.
  const response = await get(`${repo}/${file}`, url, options, {
    method: "HEAD",
    redirect: "manual",
    headers: { "accept-encoding": "identity" },
  });
  const etag = (response.headers.get("x-linked-etag") ?? response.headers.get("etag") ?? "")
    .replace(/^W\//, "")
    .replaceAll('"', "");
  const size = Number(response.headers.get("x-linked-size") ?? response.headers.get("content-length") ?? Number.NaN);
  if (!/^[\w.-]+$/.test(etag) || !Number.isSafeInteger(size))
    throw new DownloadError(`${repo}/${file}: the hub does not say its size and hash`);
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
