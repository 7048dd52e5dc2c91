import { readFileSync } from "node:fs";
import { isMambaError } from "@mamba-ts/backend";
import fc from "fast-check";
import { expect, test } from "vitest";
import { dequantise } from "../src/gguf/dequantise.js";
import { type GgufToWrite, ggufParts, openGguf } from "../src/gguf.js";
import { type FileDType, fileDTypeBytes, memoryReader, type TensorToWrite } from "../src/index.js";

const dtypes = ["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "Q8_0"] as const satisfies readonly FileDType[];

async function encode(file: GgufToWrite): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of ggufParts(file)) parts.push(part);
  return new Uint8Array(Buffer.concat(parts));
}

const open = (bytes: Uint8Array) => openGguf(memoryReader(bytes, "file.gguf"));

const tensor = (name: string, dtype: FileDType, shape: readonly number[], seed = 1): TensorToWrite => ({
  ...{ name, dtype, shape },
  bytes: () =>
    Uint8Array.from({ length: shape.reduce((a, b) => a * b, fileDTypeBytes[dtype]) }, (_, i) => seed + 31 * i),
});

const metadata = {
  "general.architecture": "mamba",
  "mamba.block_count": { uint32: 3 },
  list: { texts: ["a", "", "é"] },
};
const small = (): Promise<Uint8Array> =>
  encode({
    metadata,
    tensors: [tensor("one", "F32", [2, 3]), tensor("two", "Q8_0", [2, 64]), tensor("three", "I8", [5])],
  });

const tensors = fc.uniqueArray(
  fc.record({
    name: fc.string({ unit: "grapheme" }),
    dtype: fc.constantFrom(...dtypes),
    rows: fc.array(fc.nat(3), { maxLength: 3 }),
    width: fc.nat(4),
    seed: fc.nat(255),
  }),
  { selector: ({ name }) => name, maxLength: 8 },
);

test("what is written is read, of every dtype and shape, each tensor aligned to 32 bytes", async () => {
  await fc.assert(
    fc.asyncProperty(tensors, fc.string({ unit: "grapheme" }), async (list, value) => {
      const written = list.map(({ name, dtype, rows, width, seed }) =>
        tensor(name, dtype, [...rows, dtype === "Q8_0" ? 32 * width : width], seed),
      );
      const file = await encode({
        metadata: { value, eps: { float32: 1e-5 }, size: { uint32: 2 ** 20 } },
        tensors: written,
      });
      expect(file.length % 32).toBe(0);
      const { config, source } = await open(file);
      expect(config).toMatchObject({ value, eps: Math.fround(1e-5), size: 2 ** 20 });
      expect(source.names).toEqual(written.map(({ name }) => name));
      for (const { name, dtype, shape, bytes } of written) {
        expect(source.info(name)).toMatchObject({ dtype, shape });
        expect(await source.bytes(name)).toEqual(await bytes());
      }
    }),
    { numRuns: 100 },
  );
});

const blocks = JSON.parse(readFileSync(new URL("fixtures/gguf-blocks.json", import.meta.url), "utf8")) as {
  [type: string]: { readonly shape: [number, number]; readonly blocks: string; readonly values: string };
};

test.each(["Q4_0", "Q4_K", "Q6_K"])("%s is decoded to what ggml decodes it to, bit for bit", (type) => {
  const { shape, blocks: stored, values } = blocks[type]!;
  const decoded = dequantise(type, new Uint8Array(Buffer.from(stored, "base64")))!;
  expect(decoded.length).toBe(4 * shape[0] * shape[1]);
  expect(Buffer.from(decoded).equals(Buffer.from(values, "base64"))).toBe(true);
});

test("a quantised tensor in a file comes out as numbers", async () => {
  const { shape, blocks: stored, values } = blocks["Q4_K"]!;
  const content = new Uint8Array(Buffer.from(stored, "base64"));
  // Written as bytes, then given the type's number and axes.
  const file = await encode({
    metadata,
    tensors: [{ ...tensor("w", "I8", [1, content.length]), bytes: () => content }],
  });
  const at = Buffer.from(file).indexOf(Buffer.concat([Buffer.from("w"), Buffer.from([2, 0, 0, 0])])) + 5;
  const view = new DataView(file.buffer);
  view.setBigUint64(at, BigInt(shape[1]), true);
  view.setBigUint64(at + 8, BigInt(shape[0]), true);
  view.setUint32(at + 16, 12, true);
  const { source } = await open(file);
  expect(source.info("w")).toMatchObject({ dtype: "F32", shape });
  expect(Buffer.from(await source.bytes("w")).equals(Buffer.from(values, "base64"))).toBe(true);
});

test("a file cut short anywhere, or with any byte changed, is read or refused by a typed error", async () => {
  const file = await small();
  const readAll = async (bytes: Uint8Array): Promise<boolean> => {
    try {
      const { source } = await open(bytes);
      for (const name of source.names) await source.bytes(name);
      return true;
    } catch (error) {
      if (!isMambaError(error)) throw error;
      expect(error.message).toContain("file.gguf");
      return false;
    }
  };
  expect(await readAll(file)).toBe(true);
  // The last tensor is 5 bytes and 27 of padding, which may be missing.
  for (let n = 0; n < file.length - 27; n++) expect(await readAll(file.subarray(0, n)), `${n} bytes`).toBe(false);
  const header = file.length - 32 * 7;
  for (let i = 0; i < header; i++)
    for (const bits of [0xff, 0x80, 0x01]) {
      const damaged = file.slice();
      damaged[i]! ^= bits;
      await readAll(damaged);
    }
}, 60_000);

/** A file whose header is given word by word: text with its length, numbers as 32 bits, bigints as 64. */
function header(...words: readonly (string | number | bigint)[]): Uint8Array {
  const parts = words.map((word) => {
    if (typeof word === "number") return Buffer.from(Uint32Array.of(word).buffer);
    if (typeof word === "bigint") return Buffer.from(BigUint64Array.of(word).buffer);
    return Buffer.concat([Buffer.from(BigUint64Array.of(BigInt(word.length)).buffer), Buffer.from(word)]);
  });
  return new Uint8Array(
    Buffer.concat([Buffer.from("GGUF"), Buffer.from(Uint32Array.of(3).buffer), ...parts, Buffer.alloc(256)]),
  );
}

const huge = 2n ** 63n;
test.each<readonly [string, Uint8Array, RegExp]>([
  ["no GGUF", new Uint8Array(100), /file.gguf is no GGUF file/],
  ["as many tensors as there are numbers", header(huge, 0n), /file.gguf is no GGUF.*count/],
  ["as many keys", header(0n, huge), /file.gguf is no GGUF.*count/],
  ["a key as long", header(0n, 1n, huge), /file.gguf is no GGUF.*length/],
  ["a list as long", header(0n, 1n, "key", 9, 4, huge), /file.gguf is no GGUF.*length/],
  ["an axis as long", header(1n, 0n, "w", 1, huge, 0, 0n), /file.gguf is no GGUF.*dimension/],
  ["axes whose product is", header(1n, 0n, "w", 3, 2n ** 31n, 2n ** 31n, 4n, 0, 0n), /tensor w has shape/],
  ["a tensor that begins beyond the end", header(1n, 0n, "w", 1, 1n, 0, huge), /truncated: tensor w ends/],
  ["a tensor that ends beyond the end", header(1n, 0n, "w", 1, 1000n, 0, 0n), /truncated: tensor w ends at byte 40/],
  ["two that overlap", header(2n, 0n, "w", 1, 16n, 0, 0n, "v", 1, 16n, 0, 32n), /tensor v overlaps/],
  ["one that is not aligned", header(1n, 0n, "w", 1, 1n, 0, 8n), /tensor w begins at 8/],
  ["a name that comes twice", header(2n, 0n, "w", 1, 1n, 0, 0n, "w", 1, 1n, 0, 32n), /tensor w is listed twice/],
  ["a type that is not known", header(1n, 0n, "w", 1, 256n, 10, 0n), /w has the type of number 10.*not read/],
  ["rows that are no blocks", header(1n, 0n, "w", 2, 16n, 2n, 8, 0n), /no whole number of blocks of 32/],
])("%s", async (_, bytes, message) => {
  await expect(open(bytes)).rejects.toThrow(message);
  await expect(open(bytes)).rejects.toSatisfy((error) => isMambaError(error));
});

test("what cannot be written is refused", async () => {
  const refused = (...list: readonly TensorToWrite[]) => expect(encode({ metadata, tensors: list })).rejects;
  await refused(tensor("w", "U8", [3])).toThrow(/w is U8, which GGUF has not/);
  await refused(tensor("w", "Q8_0", [2, 16])).toThrow(/no whole number of blocks/);
  await refused(tensor("w", "F32", [2]), tensor("w", "F32", [2])).toThrow(/two tensors are named w/);
  await refused({ ...tensor("w", "F32", [2]), bytes: () => new Uint8Array(4) }).toThrow(/has 4 bytes/);
});
