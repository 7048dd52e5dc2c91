import { appendFile, mkdtemp, rename, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fileSource } from "./node.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "byte-io-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function fileOf(name: string, content: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, content);
  return path;
}

describe("fileSource", () => {
  it("reads any range", async () => {
    const source = await fileSource(await fileOf("a.txt", "0123456789"));
    expect(source).toMatchObject({ size: 10, name: join(folder, "a.txt") });
    expect(Buffer.from(await source.read(0, 10)).toString()).toBe("0123456789");
    expect(Buffer.from(await source.read(7, 3)).toString()).toBe("789");
    expect(await source.read(10, 0)).toHaveLength(0);
    const many = await Promise.all(Array.from({ length: 10 }, (_, i) => source.read(i, 1)));
    expect(Buffer.concat(many).toString()).toBe("0123456789");
    await source.close();
  });

  it("rejects what is not there, before reading", async () => {
    const source = await fileSource(await fileOf("b.txt", "abc"));
    await expect(source.read(2, 2)).rejects.toMatchObject({ name: "ByteDataError", code: "invalid-argument" });
    await expect(source.read(0.5, 1)).rejects.toThrow("offset is 0.5");
    await source.close();
  });

  it.each([
    ["grew", (path: string) => appendFile(path, "more"), 14],
    ["was cut", (path: string) => truncate(path, 2), 2],
    ["was emptied", (path: string) => truncate(path, 0), 0],
  ])("notices that the file %s while it is open", async (_, change, now) => {
    const path = await fileOf("c.txt", "0123456789");
    const source = await fileSource(path);
    await source.read(0, 4);
    await change(path);
    const reading = source.read(0, 4);
    await expect(reading).rejects.toMatchObject({ name: "ByteDataError", code: "data" });
    await expect(reading).rejects.toThrow(`${path} changed while it was read: 10 bytes before, ${now} now`);
    await source.close();
  });

  it("notices that the file was written to, though its size is the same", async () => {
    const path = await fileOf("d.txt", "0123456789");
    const source = await fileSource(path);
    const { atime, mtimeMs } = await stat(path);
    await utimes(path, atime, new Date(mtimeMs + 5000));
    await expect(source.read(0, 1)).rejects.toThrow("changed while it was read");
    await source.close();
  });

  it("notices that the file grew, though its time was set back", async () => {
    const path = await fileOf("h.txt", "0123456789");
    const then = new Date(1_600_000_000_000);
    await utimes(path, then, then);
    const source = await fileSource(path);
    await appendFile(path, "more");
    await utimes(path, then, then);
    await expect(source.read(0, 1)).rejects.toThrow("10 bytes before, 14 now");
    await source.close();
  });

  it("reads on when the file is replaced by another", async () => {
    const path = await fileOf("e.txt", "old text");
    const source = await fileSource(path);
    await rename(await fileOf("e.new", "something new"), path);
    expect(Buffer.from(await source.read(0, 8)).toString()).toBe("old text");
    await source.close();
  });

  it("says what is wrong with a path", async () => {
    await expect(fileSource(join(folder, "missing.txt"))).rejects.toMatchObject({
      name: "ByteDataError",
      code: "data",
      message: `${join(folder, "missing.txt")} does not exist`,
      cause: { code: "ENOENT" },
    });
    await expect(fileSource(folder)).rejects.toThrow(`${folder} is not a file`);
    const below = join(await fileOf("f.txt", ""), "x.txt");
    await expect(fileSource(below)).rejects.toThrow("cannot be opened");
  });

  it("is closed when it is closed, twice if need be", async () => {
    const source = await fileSource(await fileOf("g.txt", "abc"));
    await source.close();
    await source.close();
    await expect(source.read(0, 1)).rejects.toThrow("g.txt is closed");
  });
});
