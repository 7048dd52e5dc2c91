import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { encodeSafetensors } from "../src/index.js";

export const commit = "c0ffee00";
export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
export const gitHash = (bytes: Uint8Array): string =>
  createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
export const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

export async function weights(name: string, length: number): Promise<Uint8Array> {
  const bytes = () => new Uint8Array(Float32Array.from({ length }, (_, i) => i).buffer);
  return encodeSafetensors([{ name, dtype: "F32", shape: [length], bytes }]);
}

export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

export interface HubServer {
  readonly endpoint: string;
  readonly seen: Seen[];
  /** GETs of contents, not counting the redirects to them. */
  fetches(name: string): Seen[];
  close(): Promise<void>;
}

export interface Behaviour {
  readonly files: Map<string, Uint8Array>;
  /** The listing gives sizes and hashes, as the hub does if it is asked for `blobs`. */
  listsBlobs?: boolean;
  /** Called first; true: it has answered. */
  intercept?(request: IncomingMessage, response: ServerResponse, name: string): boolean;
  /** How the content of a file is sent, from `start` on; by default whole. */
  send?(response: ServerResponse, rest: Buffer, start: number, name: string): void;
}

const isLarge = (name: string): boolean => name.endsWith(".safetensors") || name.endsWith(".bin");

function listing({ files, listsBlobs }: Behaviour): string {
  const siblings = Array.from(files, ([rfilename, bytes]) => ({
    rfilename,
    ...(listsBlobs === true ? { size: bytes.length, blobId: gitHash(bytes) } : {}),
    ...(listsBlobs === true && isLarge(rfilename)
      ? { lfs: { sha256: sha256(bytes), size: bytes.length, pointerSize: 134 } }
      : {}),
  }));
  return JSON.stringify({ sha: commit, siblings });
}

/** A hub with one repository, owner/name; large files are redirected to a store that does not know their hash, as the real one does. */
export async function startHub(behaviour: Behaviour): Promise<HubServer> {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? "", "http://hub");
    const { range, authorization } = request.headers;
    seen.push({ method: request.method ?? "", path: pathname, range, authorization });
    const name = decodeURIComponent(pathname.split("/").at(-1) ?? "");
    if (behaviour.intercept?.(request, response, name) === true) return;
    if (pathname.startsWith("/api/models/owner/name/revision/")) return void response.end(listing(behaviour));
    const bytes = behaviour.files.get(name);
    const known = pathname.startsWith(`/owner/name/resolve/${commit}/`) || pathname.startsWith("/store/");
    if (bytes === undefined || !known) return void response.writeHead(404).end();
    if (isLarge(name) && !pathname.startsWith("/store/"))
      return void response
        .writeHead(302, {
          location: `http://${request.headers.host}/store/${name}`,
          "x-linked-etag": `"${sha256(bytes)}"`,
          "x-linked-size": bytes.length,
          "content-length": 0,
        })
        .end();
    const start = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
    const rest = Buffer.from(bytes.subarray(start));
    response.writeHead(start > 0 ? 206 : 200, {
      "content-length": rest.length,
      etag: isLarge(name) ? '"of-the-store"' : `"${gitHash(bytes)}"`,
      ...(start > 0 ? { "content-range": `bytes ${start}-${bytes.length - 1}/${bytes.length}` } : {}),
    });
    if (request.method === "HEAD" || behaviour.send === undefined) return void response.end(rest);
    behaviour.send(response, rest, start, name);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    fetches: (name) =>
      seen.filter(
        ({ method, path }) => method === "GET" && path === (isLarge(name) ? `/store/${name}` : resolvePath(name)),
      ),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

const resolvePath = (name: string): string => `/owner/name/resolve/${commit}/${name}`;
