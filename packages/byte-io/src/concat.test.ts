import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { concatSources } from "./concat.js";
import { ByteDataError } from "./errors.js";
import { type ByteSource, memorySource } from "./source.js";

describe("concatSources", () => {
  it("is its documents in order, whatever the range, empty ones included", async () => {
    const range = fc.tuple(fc.nat(), fc.nat());
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ maxLength: 6 }), { maxLength: 7 }),
        range,
        async (documents, [a, b]) => {
          const joined = documents.flatMap((document) => [...document]);
          const owners = documents.flatMap((document, i) => [...document].map(() => i));
          const source = concatSources(documents.map((document) => memorySource(document)));
          expect(source.size).toBe(joined.length);
          expect(source.starts).toEqual(documents.map((_, i) => documents.slice(0, i).flatMap((d) => [...d]).length));
          const offset = a % (joined.length + 1);
          const length = b % (joined.length - offset + 1);
          expect([...(await source.read(offset, length))]).toEqual(joined.slice(offset, offset + length));
          expect([...source.segments(offset, length)]).toEqual(owners.slice(offset, offset + length));
        },
      ),
    );
  });

  it("reads only the documents that it needs", async () => {
    const touched: number[] = [];
    const source = concatSources(
      [3, 0, 2, 4].map((size, i): ByteSource => {
        const inner = memorySource(new Uint8Array(size).fill(i));
        return {
          ...inner,
          read(...range) {
            touched.push(i);
            return inner.read(...range);
          },
        };
      }),
    );
    expect(await source.read(3, 3)).toEqual(Uint8Array.of(2, 2, 3));
    expect(touched).toEqual([2, 3]);
  });

  it("rejects what is not there", async () => {
    const source = concatSources([memorySource(new Uint8Array(2), "a"), memorySource(new Uint8Array(3), "b")]);
    await expect(source.read(4, 2)).rejects.toThrow("a + b: bytes 4 to 6 of 5");
    expect(() => source.segments(0, 6)).toThrow(ByteDataError);
    await expect(concatSources([]).read(0, 1)).rejects.toThrow("no sources: bytes 0 to 1 of 0");
    expect(await concatSources([]).read(0, 0)).toEqual(new Uint8Array(0));
  });

  it("has a short name, passes errors on, and closes all", async () => {
    let closed = 0;
    const part = (name: string): ByteSource => ({
      name,
      size: 1,
      read: () => Promise.reject(new ByteDataError(`${name} changed`)),
      close: async () => void closed++,
    });
    const source = concatSources(["a", "b", "c", "d", "e"].map(part));
    expect(source.name).toBe("a + b + c + 2 more");
    await expect(source.read(1, 1)).rejects.toThrow("b changed");
    await source.close();
    expect(closed).toBe(5);
  });
});
