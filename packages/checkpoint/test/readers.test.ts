import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isMambaError } from "@mamba-ts/backend";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ByteReader, blobReader, memoryReader, urlReader } from "../src/index.js";
import { fileReader } from "../src/node.js";

const content = Uint8Array.from({ length: 1000 }, (_, i) => i);
let folder: string;
let base: string;

const server = createServer((request, response) => {
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
  if (request.url === "/whole" || range === null) return void response.end(content);
  const [start, end] = [Number(range[1]), Number(range[2]) + 1];
  const part = content.subarray(start, end);
  const total = request.url === "/unsized" ? "*" : String(content.length);
  response.writeHead(206, {
    "content-range": `bytes ${start}-${end - 1}/${total}`,
    "content-length": part.length,
  });
  if (request.url === "/cut" && start > 0) return void response.write(part.subarray(0, 1), () => response.destroy());
  response.end(part);
});

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "readers-"));
  await writeFile(join(folder, "file"), content);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await rm(folder, { recursive: true });
});

describe.each<[string, () => ByteReader | Promise<ByteReader>]>([
  ["memory", () => memoryReader(content)],
  ["a Blob", () => blobReader(new Blob([content]))],
  ["a file", () => fileReader(join(folder, "file"))],
  ["a URL", () => urlReader(`${base}/ranges`)],
])("%s", (_, open) => {
  test("ranges", async () => {
    const reader = await open();
    expect(reader.size).toBe(1000);
    for (const [offset, length] of [
      [0, 1],
      [7, 100],
      [0, 1000],
      [999, 1],
      [1000, 0],
    ] as const)
      expect(Array.from(await reader.read(offset, length))).toEqual(Array.from(content.slice(offset, offset + length)));
    await reader.close();
  });

  test.each([
    [0, 1001],
    [1000, 1],
    [999, 2 ** 40],
    [-1, 2],
    [0, -1],
    [0.5, 1],
  ])("%s + %s is not there", async (offset, length) => {
    const reader = await open();
    await expect(reader.read(offset, length)).rejects.toSatisfy((e) => isMambaError(e));
    await reader.close();
  });

  test("an abort", async () => {
    const reader = await open();
    const reason = new Error("enough");
    await expect(reader.read(0, 10, AbortSignal.abort(reason))).rejects.toBe(reason);
    await reader.close();
  });
});

test.each([
  ["whole", /answered 200 to a range request/],
  ["unsized", /does not say how large/],
])("a server that cannot serve ranges: %s", async (path, message) => {
  await expect(urlReader(`${base}/${path}`)).rejects.toThrow(message);
});

test("a connection that breaks, or is refused", async () => {
  const reader = await urlReader(`${base}/cut`);
  await expect(reader.read(10, 20)).rejects.toSatisfy((e) => isMambaError(e, "checkpoint"));
  const nobody = urlReader("http://127.0.0.1:1/file");
  await expect(nobody).rejects.toSatisfy((e) => isMambaError(e, "checkpoint"));
});

test("a file that is not there, a folder, a file that shrinks", async () => {
  await expect(fileReader(join(folder, "none"))).rejects.toThrow(/none does not exist/);
  await expect(fileReader(folder)).rejects.toThrow(/is no file/);
  const path = join(folder, "shrinks");
  await writeFile(path, content);
  const reader = await fileReader(path);
  await writeFile(path, content.subarray(0, 10));
  await expect(reader.read(0, 1000)).rejects.toThrow(/shrinks is truncated/);
  await reader.close();
});
