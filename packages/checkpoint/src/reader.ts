import { CheckpointError, InvalidArgumentError } from "@mamba-ts/backend";

/** Random access to bytes that need not be in memory. */
export interface ByteReader {
  /** For messages: a path, a URL. */
  readonly name: string;
  readonly size: number;
  /** Exactly `length` bytes from `offset` on; rejects with CheckpointError if they are not there. */
  read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Throws the errors of `ByteReader.read` for a range that is none, or not there. */
export function checkRange(name: string, size: number, offset: number, length: number): void {
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0)
    throw new InvalidArgumentError(`${name}: cannot read ${length} bytes at ${offset}`);
  if (offset + length > size)
    throw new CheckpointError(`${name} is truncated: bytes ${offset} to ${offset + length} of a file of ${size}`, {
      hint: "the download or copy was cut short; fetch it again",
    });
}

/** Bytes that are in memory. */
export function memoryReader(data: ArrayBuffer | Uint8Array, name = "memory"): ByteReader {
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(data);
  return {
    name,
    size: bytes.length,
    async read(offset, length, signal) {
      signal?.throwIfAborted();
      checkRange(name, bytes.length, offset, length);
      return bytes.subarray(offset, offset + length);
    },
    async close() {},
  };
}

/** A Blob or File, as a page gets it from an input or a drop. */
export function blobReader(blob: Blob, name = (blob as Partial<File>).name ?? "blob"): ByteReader {
  return {
    name,
    size: blob.size,
    async read(offset, length, signal) {
      signal?.throwIfAborted();
      checkRange(name, blob.size, offset, length);
      return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
    },
    async close() {},
  };
}

export interface UrlReaderOptions {
  readonly fetch?: typeof fetch;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/** A file behind HTTP, read by ranges. The server must answer range requests. */
export async function urlReader(
  url: string,
  { fetch: get = fetch, headers = {}, signal }: UrlReaderOptions = {},
): Promise<ByteReader> {
  const range = async (offset: number, length: number, stop: AbortSignal | undefined): Promise<Response> => {
    const response = await get(url, {
      headers: { ...headers, Range: `bytes=${offset}-${offset + length - 1}` },
      ...(stop === undefined ? {} : { signal: stop }),
    }).catch((cause: unknown) => broken(cause, stop));
    if (response.status === 206) return response;
    await response.body?.cancel();
    throw new CheckpointError(`${url}: the server answered ${response.status} to a range request`, {
      hint: response.ok ? "it does not support ranges; download the file first" : undefined,
    });
  };
  const broken = (cause: unknown, stop: AbortSignal | undefined): never => {
    stop?.throwIfAborted();
    throw new CheckpointError(`${url}: the connection broke: ${(cause as Error).message}`, { cause });
  };
  const first = await range(0, 1, signal);
  const total = /\/(\d+)$/.exec(first.headers.get("content-range") ?? "")?.[1];
  await first.body?.cancel();
  if (total === undefined) throw new CheckpointError(`${url}: the server does not say how large the file is`);
  const size = Number(total);
  return {
    name: url,
    size,
    async read(offset, length, stop) {
      checkRange(url, size, offset, length);
      if (length === 0) return new Uint8Array(0);
      const response = await range(offset, length, stop);
      const bytes = new Uint8Array(await response.arrayBuffer().catch((cause: unknown) => broken(cause, stop)));
      if (bytes.length !== length)
        throw new CheckpointError(`${url}: asked for ${length} bytes at ${offset}, got ${bytes.length}`);
      return bytes;
    },
    async close() {},
  };
}
