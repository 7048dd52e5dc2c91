import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isMambaError } from "@mamba-ts/backend";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { encodeSafetensors, memoryReader, openSafetensors, openSharded, type TensorSource } from "../src/index.js";
import { isFolder, openCheckpoint } from "../src/node.js";

const shard = (...names: string[]): Promise<Uint8Array> =>
  encodeSafetensors(
    names.map((name) => ({
      name,
      dtype: "U8",
      shape: [name.length],
      bytes: () => new TextEncoder().encode(name),
    })),
  );

describe("by index", () => {
  let files: Record<string, Uint8Array>;
  let opened: number;
  let closed: number;

  beforeEach(async () => {
    files = { "1.safetensors": await shard("one", "uno"), "2.safetensors": await shard("two") };
    [opened, closed] = [0, 0];
  });

  const open = async (file: string): Promise<TensorSource> => {
    const bytes = files[file];
    if (bytes === undefined) throw new Error(`${file} does not exist`);
    const source = await openSafetensors(memoryReader(bytes, file));
    opened++;
    return {
      ...source,
      close: async () => {
        closed++;
      },
    };
  };
  const openIndex = (weightMap: unknown) => openSharded("index.json", { metadata: {}, weight_map: weightMap }, open);

  test("tensors come from their shards", async () => {
    const source = await openIndex({ one: "1.safetensors", uno: "1.safetensors", two: "2.safetensors" });
    expect([...source.names].sort()).toEqual(["one", "two", "uno"]);
    expect(source.info("two").file).toBe("2.safetensors");
    for (const name of source.names) expect(new TextDecoder().decode(await source.bytes(name))).toBe(name);
    expect(source.has("three")).toBe(false);
    expect(() => source.info("three")).toThrow(/there is no tensor three/);
    await source.close();
    expect([opened, closed]).toEqual([2, 2]);
  });

  test.each<[string, unknown, RegExp]>([
    ["a shard is missing", { one: "1.safetensors", x: "3.safetensors" }, /shard 3.safetensors cannot be opened/],
    ["a tensor is not in its shard", { one: "1.safetensors", uno: "2.safetensors" }, /tensor uno is not in 2.safet/],
    ["no map", undefined, /no weight_map/],
    ["a map that is text", "1.safetensors", /no weight_map/],
    ...["../1.safetensors", "/etc/passwd", "a/b", "a\\b", "C:x", "..", ".", "", "a\0b", 7, null].map(
      (file): [string, unknown, RegExp] => [
        `a file outside the folder: ${JSON.stringify(file)}`,
        { one: "1.safetensors", two: file },
        /tensor two is said to be in .*, which is no file of this folder/,
      ],
    ),
  ])("refused: %s", async (_, map, message) => {
    const error: unknown = await openIndex(map).catch((e: unknown) => e);
    expect(isMambaError(error, "checkpoint")).toBe(true);
    expect((error as Error).message).toMatch(message);
    expect((error as Error).message).toContain("index.json");
    expect(closed).toBe(opened);
  });

  test("refused: a tensor in two shards", async () => {
    files["2.safetensors"] = await shard("two", "one");
    await expect(openIndex({ one: "1.safetensors", two: "2.safetensors" })).rejects.toThrow(
      /tensor one is in both 1.safetensors and 2.safetensors/,
    );
    expect([opened, closed]).toEqual([2, 2]);
  });

  test.each([null, 5, "text", []])("refused: the index is %j", async (index) => {
    await expect(openSharded("index.json", index, open)).rejects.toThrow(/index.json: there is no weight_map/);
  });
});

describe("a folder", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "folder-"));
  });
  afterEach(() => rm(folder, { recursive: true }));
  const put = (files: Record<string, string | Uint8Array>) =>
    Promise.all(Object.entries(files).map(([name, content]) => writeFile(join(folder, name), content)));

  test("whole", async () => {
    await put({
      "config.json": '{"a":1}',
      "model.safetensors": await shard("one"),
      "tokenizer.json": '{"t":1}',
    });
    const { config, source, tokenizer } = await openCheckpoint(folder);
    expect([config, source.names, tokenizer]).toEqual([{ a: 1 }, ["one"], { json: { t: 1 }, config: {} }]);
    await source.close();
    expect([await isFolder(folder), await isFolder(join(folder, "config.json"))]).toEqual([true, false]);
  });

  test("sharded", async () => {
    await put({
      "config.json": "{}",
      "model.safetensors.index.json": '{"weight_map":{"one":"1.safetensors","two":"2.safetensors"}}',
      "1.safetensors": await shard("one"),
      "2.safetensors": await shard("two"),
    });
    const { source, tokenizer } = await openCheckpoint(folder);
    expect([source.names, tokenizer]).toEqual([["one", "two"], undefined]);
    await source.close();
    await rm(join(folder, "2.safetensors"));
    await expect(openCheckpoint(folder)).rejects.toThrow(/shard 2.safetensors cannot be opened: .*does not exist/);
  });

  test.each<[string, Record<string, string | Uint8Array>, RegExp]>([
    ["nothing", {}, /config.json does not exist/],
    ["no weights", { "config.json": "{}" }, /holds no model.safetensors/],
    ["a config that is no JSON", { "config.json": "{" }, /config.json is not JSON/],
    ["a config that is not UTF-8", { "config.json": Uint8Array.of(0x22, 0xff, 0x22) }, /config.json is not JSON/],
    ["damaged weights", { "config.json": "{}", "model.safetensors": "1234567" }, /model.safetensors is truncated/],
    [
      "damaged weights of PyTorch",
      { "config.json": "{}", "pytorch_model.bin": "x" },
      /pytorch_model.bin: it is no zip/,
    ],
    ["a damaged index", { "config.json": "{}", "model.safetensors.index.json": "[" }, /index.json is not JSON/],
    [
      "a damaged tokenizer",
      { "config.json": "{}", "model.safetensors": new Uint8Array(8), "tokenizer.json": "{" },
      /tokenizer.json is not JSON/,
    ],
  ])("refused: %s", async (_, files, message) => {
    await put(files);
    const error: unknown = await openCheckpoint(folder).catch((e: unknown) => e);
    expect(isMambaError(error, "checkpoint")).toBe(true);
    expect((error as Error).message).toMatch(message);
  });

  test("refused: no folder", async () => {
    await expect(openCheckpoint(join(folder, "none"))).rejects.toThrow(/none does not exist/);
  });
});
