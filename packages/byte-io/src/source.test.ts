import { describe, expect, it } from "vitest";
import { ByteDataError } from "./errors.js";
import { blobSource, expectSize, memorySource } from "./source.js";

const bytes = Uint8Array.of(10, 11, 12, 13, 14);

describe.each([
  ["memorySource", () => memorySource(bytes)],
  ["blobSource", () => blobSource(new Blob([bytes.slice(0, 2), bytes.slice(2)]))],
])("%s", (_, open) => {
  it("reads any range, to the last byte", async () => {
    const source = open();
    expect(source.size).toBe(5);
    for (let offset = 0; offset <= 5; offset++)
      for (let length = 0; offset + length <= 5; length++)
        expect(await source.read(offset, length)).toEqual(bytes.slice(offset, offset + length));
    await source.close();
  });

  it.each([
    [0, 6],
    [6, 0],
    [-1, 2],
    [1, -1],
    [0.5, 2],
    [0, 1.5],
    [Number.NaN, 1],
    [0, Number.POSITIVE_INFINITY],
  ])("rejects what is not there: %d, %d", async (offset, length) => {
    const reading = open().read(offset, length);
    await expect(reading).rejects.toThrow(ByteDataError);
    await expect(reading).rejects.toMatchObject({ code: "invalid-argument" });
  });

  it("gives bytes that are the caller's own", async () => {
    const source = open();
    (await source.read(0, 5)).fill(0);
    expect([...(await source.read(0, 5))]).toEqual([10, 11, 12, 13, 14]);
  });
});

describe("memorySource", () => {
  it("notices that its memory was moved away", async () => {
    const memory = Uint8Array.of(1, 2, 3);
    const source = memorySource(memory, "text");
    structuredClone(memory.buffer, { transfer: [memory.buffer] });
    await expect(source.read(0, 2)).rejects.toThrow("text changed while it was read: 3 bytes before, 0 now");
  });
});

describe("blobSource", () => {
  it("is called as the file is, in errors too", async () => {
    const source = blobSource(new File([bytes], "novel.txt"));
    expect(source.name).toBe("novel.txt");
    await expect(source.read(0, 6)).rejects.toThrow("novel.txt: bytes 0 to 6 of 5");
    expect(blobSource(new Blob([]), "mine").name).toBe("mine");
    expect(blobSource(new Blob([])).name).toBe("blob");
  });

  it("turns the refusal of a browser to read a changed file into a data error", async () => {
    class ChangedFile extends Blob {
      override slice(): Blob {
        return Object.assign(new Blob([]), {
          arrayBuffer: () => Promise.reject(new DOMException("changed", "NotReadableError")),
        });
      }
    }
    const reading = blobSource(new ChangedFile([bytes]), "novel.txt").read(0, 2);
    await expect(reading).rejects.toMatchObject({
      name: "ByteDataError",
      code: "data",
      cause: { name: "NotReadableError" },
    });
    await expect(reading).rejects.toThrow("novel.txt cannot be read any more");
  });

  it("notices that less is there than there was", async () => {
    class ShorterFile extends Blob {
      override slice(): Blob {
        return new Blob([bytes.slice(0, 1)]);
      }
    }
    await expect(blobSource(new ShorterFile([bytes])).read(0, 3)).rejects.toMatchObject({ code: "data" });
  });
});

describe("expectSize", () => {
  it("tells empty from short", () => {
    expect(() => expectSize(memorySource(new Uint8Array(0), "a.txt"), 0)).toThrow("a.txt is empty");
    expect(() => expectSize(memorySource(bytes, "a.txt"), 6)).toThrow("a.txt has 5 bytes, fewer than the 6");
    expect(() => expectSize(memorySource(bytes), 5)).not.toThrow();
  });

  it("throws errors that are known without this package", () => {
    const error = new ByteDataError("what", "help", { cause: 1 });
    expect(Symbol.for("mamba-ts.error") in error).toBe(true);
    expect(error).toMatchObject({
      name: "ByteDataError",
      code: "data",
      hint: "help",
      cause: 1,
      message: "what\nHint: help",
    });
    expect("cause" in new ByteDataError("what")).toBe(false);
  });
});
