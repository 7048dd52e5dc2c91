import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isMambaError } from "@mamba-ts/backend";
import { afterEach, beforeEach, expect, test } from "vitest";
import { atomicWrite, openSafetensorsFile, saveSafetensors } from "../src/node.js";

let folder: string;
let path: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "atomic-"));
  path = join(folder, "file");
  await writeFile(path, "before");
});
afterEach(() => rm(folder, { recursive: true }));

async function expectUntouched(): Promise<void> {
  expect(await readFile(path, "utf8")).toBe("before");
  expect(await readdir(folder)).toEqual(["file"]);
}

async function* failing(error: Error): AsyncGenerator<Uint8Array> {
  yield new Uint8Array(100_000);
  throw error;
}

test.each<[string, string | Uint8Array | Iterable<Uint8Array>]>([
  ["text", "after"],
  ["bytes", new TextEncoder().encode("after")],
  ["parts", ["af", "", "ter"].map((s) => new TextEncoder().encode(s))],
])("replaces the file with %s", async (_, content) => {
  await atomicWrite(path, content);
  expect(await readFile(path, "utf8")).toBe("after");
  expect(await readdir(folder)).toEqual(["file"]);
});

test("makes the folders on the way", async () => {
  await atomicWrite(join(folder, "a", "b", "c"), "x");
  expect(await readFile(join(folder, "a", "b", "c"), "utf8")).toBe("x");
});

test("a disk that fills up on the way", async () => {
  const full = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
  const error: unknown = await atomicWrite(path, failing(full)).catch((e: unknown) => e);
  expect(isMambaError(error, "checkpoint")).toBe(true);
  expect((error as Error).message).toMatch(/file could not be written: the disk is full\n.*previous file is untouched/);
  expect((error as Error).cause).toBe(full);
  await expectUntouched();
});

test("an error of the content passes unchanged", async () => {
  const error = new Error("a bug");
  await expect(atomicWrite(path, failing(error))).rejects.toBe(error);
  await expectUntouched();
});

test("an abort, before and on the way", async () => {
  const reason = new Error("enough");
  await expect(atomicWrite(path, "after", AbortSignal.abort(reason))).rejects.toBe(reason);
  await expectUntouched();
  const stop = new AbortController();
  let closed = false;
  async function* content(): AsyncGenerator<Uint8Array> {
    try {
      for (let i = 0; ; i++) {
        if (i === 3) stop.abort(reason);
        yield new Uint8Array(1000);
      }
    } finally {
      closed = true;
    }
  }
  await expect(atomicWrite(path, content(), stop.signal)).rejects.toBe(reason);
  expect(closed).toBe(true);
  await expectUntouched();
});

test("a folder in the way, a file where a folder should be", async () => {
  await expect(atomicWrite(folder, "x")).rejects.toSatisfy((e) => isMambaError(e, "checkpoint"));
  await expect(atomicWrite(join(path, "below"), "x")).rejects.toSatisfy((e) => isMambaError(e, "checkpoint"));
  await expectUntouched();
});

test("the file is not there, or old, until it is whole", async () => {
  const seen: string[] = [];
  async function* content(): AsyncGenerator<Uint8Array> {
    for (const part of ["new", "er"]) {
      yield new TextEncoder().encode(part);
      seen.push(await readFile(path, "utf8"));
    }
  }
  await atomicWrite(path, content());
  expect(seen).toEqual(["before", "before"]);
  expect(await readFile(path, "utf8")).toBe("newer");
});

test("saveSafetensors holds one tensor at a time, and leaves the old file where one fails", async () => {
  const taken: string[] = [];
  const tensor = (name: string, bytes: () => Uint8Array) => ({
    name,
    dtype: "U8" as const,
    shape: [4],
    bytes: () => {
      taken.push(name);
      return bytes();
    },
  });
  const good = () => new Uint8Array([1, 2, 3, 4]);
  await saveSafetensors(path, [tensor("b", good), tensor("a", good)], { metadata: { format: "pt" } });
  expect(taken).toEqual(["a", "b"]);
  const before = await readFile(path);
  const bad = tensor("b", () => new Uint8Array(3));
  await expect(saveSafetensors(path, [tensor("a", good), bad])).rejects.toThrow(/tensor b has 3 bytes/);
  expect(await readFile(path)).toEqual(before);
  expect(await readdir(folder)).toEqual(["file"]);
  const source = await openSafetensorsFile(path);
  expect([source.names, source.metadata, Array.from(await source.bytes("b"))]).toEqual([
    ["a", "b"],
    { format: "pt" },
    [1, 2, 3, 4],
  ]);
  await source.close();
});
