import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isMambaError } from "@mamba-ts/backend";
import { encodeSafetensors } from "@mamba-ts/checkpoint";
import { downloadFromHub } from "@mamba-ts/checkpoint/hub";
import { afterEach, beforeEach, expect, test } from "vitest";

type Fault = "none" | "cut" | "corrupt" | "stall" | "no-range" | "missing";
let server: Server;
let endpoint: string;
let cacheDir: string;
let fault: Fault;
let ranges: string[];
let files: Map<string, Uint8Array>;

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const gitHash = (bytes: Uint8Array): string =>
  createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
const isLarge = (name: string): boolean => name.endsWith(".safetensors");

beforeEach(async () => {
  const weights = await encodeSafetensors([
    {
      name: "x",
      dtype: "F32",
      shape: [5000],
      bytes: () => new Uint8Array(Float32Array.from({ length: 5000 }, (_, i) => i).buffer),
    },
  ]);
  files = new Map([
    ["config.json", new TextEncoder().encode('{"a":1}')],
    ["model.safetensors", weights],
  ]);
  [fault, ranges, cacheDir] = ["none", [], mkdtempSync(join(tmpdir(), "hub-"))];
  let broken = 0;
  server = createServer((request, response) => {
    const url = request.url ?? "";
    if (fault === "missing") return void response.writeHead(404).end();
    if (url.startsWith("/api/models/"))
      return void response.end(
        JSON.stringify({ sha: "c0ffee", siblings: [...files.keys()].map((rfilename) => ({ rfilename })) }),
      );
    const name = url.split("/").at(-1)!;
    const bytes = files.get(name)!;
    // The hub redirects large files to a store, which does not know their hash.
    if (isLarge(name) && !url.startsWith("/store/"))
      return void response
        .writeHead(302, {
          location: `/store/${name}`,
          "x-linked-etag": `"${sha256(bytes)}"`,
          "x-linked-size": String(bytes.length),
        })
        .end();
    const asked = request.headers.range;
    if (asked !== undefined) ranges.push(asked);
    const start = asked === undefined || fault === "no-range" ? 0 : Number(/bytes=(\d+)-/.exec(asked)![1]);
    const body = Buffer.from(bytes.subarray(start));
    if (isLarge(name) && fault === "corrupt") body[100]! ^= 1;
    response.writeHead(start > 0 ? 206 : 200, {
      "content-length": body.length,
      etag: `"${gitHash(bytes)}"`,
      ...(start > 0 ? { "content-range": `bytes ${start}-${bytes.length - 1}/${bytes.length}` } : {}),
    });
    const breaks = isLarge(name) && (fault === "cut" || fault === "stall" || fault === "no-range") && broken++ === 0;
    if (!breaks) return void response.end(body);
    // The client has read what came when the connection breaks.
    response.write(body.subarray(0, 9000), () => fault !== "stall" && setTimeout(() => response.destroy(), 50));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterEach(() => {
  server.closeAllConnections();
  server.close();
  rmSync(cacheDir, { recursive: true });
});

const download = (options = {}) =>
  downloadFromHub("owner/name", { endpoint, cacheDir, attempts: 3, stallTimeout: 2000, ...options });
const root = (): string => join(cacheDir, "models--owner--name");

async function expectWhole(): Promise<void> {
  const folder = await download();
  expect(folder).toBe(join(root(), "snapshots", "c0ffee"));
  for (const [name, bytes] of files) expect(new Uint8Array(readFileSync(join(folder, name)))).toEqual(bytes);
  expect(readdirSync(join(root(), "blobs")).sort()).toEqual(
    [gitHash(files.get("config.json")!), sha256(files.get("model.safetensors")!)].sort(),
  );
}

test("the cache is laid out as the Python library has it, and serves offline", async () => {
  await expectWhole();
  expect(readFileSync(join(root(), "refs", "main"), "utf8")).toBe("c0ffee");
  expect(readlinkSync(join(root(), "snapshots", "c0ffee", "model.safetensors"))).toBe(
    join("..", "..", "blobs", sha256(files.get("model.safetensors")!)),
  );
  server.close();
  expect(await download({ offline: true })).toBe(join(root(), "snapshots", "c0ffee"));
  await expect(downloadFromHub("owner/other", { cacheDir, offline: true })).rejects.toThrow(/not in the cache/);
});

test.each(["cut", "stall"] as const)("a connection that is %s goes on where it broke", async (kind) => {
  fault = kind;
  await expectWhole();
  expect(ranges.some((range) => /^bytes=[1-9]\d*-$/.test(range))).toBe(true);
});

test("a server that ignores ranges sends it all again", async () => {
  fault = "no-range";
  await expectWhole();
});

test("content with the wrong hash is refused and leaves nothing under its name", async () => {
  fault = "corrupt";
  await expect(download()).rejects.toThrow(/model.safetensors: its hash is .*, not /);
  const blob = join(root(), "blobs", sha256(files.get("model.safetensors")!));
  expect([existsSync(blob), existsSync(`${blob}.incomplete`), existsSync(`${blob}.lock`)]).toEqual([
    false,
    false,
    false,
  ]);
  expect(existsSync(join(root(), "snapshots", "c0ffee", "model.safetensors"))).toBe(false);
  fault = "none";
  await expectWhole();
});

test("an abort keeps what has come, and the next attempt goes on from there", async () => {
  fault = "stall";
  const stop = new AbortController();
  const run = download({ signal: stop.signal, stallTimeout: 60_000, onDownload: () => stop.abort() });
  await expect(run).rejects.toThrow(/abort/i);
  await expectWhole();
});

test("two at once are one download", async () => {
  const [a, b] = await Promise.all([download(), download()]);
  expect(a).toBe(b);
  await expectWhole();
});

test("a repository that is not there", async () => {
  fault = "missing";
  await expect(download()).rejects.toSatisfy(
    (e) => isMambaError(e, "download") && /404/.test(e.message) && /check the repository/.test(e.message),
  );
});
