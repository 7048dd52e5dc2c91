import { isMambaError } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  type ByteReader,
  encodeSafetensors,
  type FileDType,
  fileDTypeBytes,
  memoryReader,
  openSafetensors,
  readTensor,
  type TensorToWrite,
} from "../src/index.js";

const dtypes = Object.keys(fileDTypeBytes) as FileDType[];
const encoder = new TextEncoder();

function fileOf(header: string | Uint8Array, dataSize = 0, headerSize?: bigint): Uint8Array {
  const text = typeof header === "string" ? encoder.encode(header) : header;
  const out = new Uint8Array(8 + text.length + dataSize);
  new DataView(out.buffer).setBigUint64(0, headerSize ?? BigInt(text.length), true);
  out.set(text, 8);
  return out;
}

const open = (bytes: Uint8Array) => openSafetensors(memoryReader(bytes, "file.safetensors"));

/** Opens a file and reads all of it; the only way to fail is a typed error. */
async function readAll(bytes: Uint8Array): Promise<void> {
  try {
    const source = await open(bytes);
    for (const name of source.names) await source.bytes(name);
  } catch (error) {
    if (!isMambaError(error)) throw error;
    expect(error.message).toContain("file.safetensors");
  }
}

const tensors = fc.uniqueArray(
  fc
    .record({
      name: fc.oneof(fc.string({ unit: "grapheme" }), fc.constantFrom("__proto__", "constructor", "0", "", '"\\')),
      dtype: fc.constantFrom(...dtypes),
      shape: fc.array(fc.nat(4), { maxLength: 4 }),
      seed: fc.nat(255),
    })
    .filter(({ name }) => name !== "__metadata__"),
  { selector: ({ name }) => name, maxLength: 8 },
);

test("what is written is read, of every dtype, shape and name", async () => {
  const seen = new Set<FileDType>();
  await fc.assert(
    fc.asyncProperty(tensors, fc.dictionary(fc.string(), fc.string()), async (list, metadata) => {
      const written = list.map(({ name, dtype, shape: drawn, seed }) => {
        seen.add(dtype);
        const shape = dtype === "Q8_0" ? [...drawn, 32 * (seed % 3)] : drawn;
        const size = shape.reduce((a, b) => a * b, fileDTypeBytes[dtype]);
        const content = Uint8Array.from({ length: size }, (_, i) => seed + 31 * i);
        return { name, dtype, shape, content, bytes: () => content };
      });
      const file = await encodeSafetensors(written, metadata);
      const source = await open(file);
      expect([...source.names].sort()).toEqual(list.map(({ name }) => name).sort());
      expect(source.metadata).toEqual(metadata);
      for (const { name, dtype, shape, content } of written) {
        expect(source.info(name)).toMatchObject({ dtype, shape });
        expect(Array.from(await source.bytes(name))).toEqual(Array.from(content));
      }
      expect(new DataView(file.buffer).getUint32(0, true) % 8).toBe(0);
    }),
    { numRuns: 150 },
  );
  expect(seen.size).toBe(dtypes.length);
});

const tensor = (name: string, dtype: FileDType, shape: number[]): TensorToWrite => ({
  name,
  dtype,
  shape,
  bytes: () => new Uint8Array(shape.reduce((a, b) => a * b, fileDTypeBytes[dtype])).fill(1),
});

test("only the header and the tensor asked for are read", async () => {
  const whole = memoryReader(await encodeSafetensors([tensor("a", "F32", [50_000]), tensor("b", "F32", [10])]));
  const ranges: [number, number][] = [];
  const counting: ByteReader = {
    ...whole,
    read: (offset, length, signal) => {
      ranges.push([offset, length]);
      return whole.read(offset, length, signal);
    },
  };
  const source = await openSafetensors(counting);
  const header = ranges.reduce((n, [, length]) => n + length, 0);
  expect(header).toBeLessThan(300);
  ranges.length = 0;
  await source.bytes("b");
  expect(ranges).toEqual([[whole.size - 40, 40]]);
});

test("a reader that does not know blocks of q8_0 finds their bytes", async () => {
  const file = await encodeSafetensors([tensor("w", "Q8_0", [3, 64])]);
  const { w, __metadata__ } = JSON.parse(new TextDecoder().decode(file.subarray(8, file.length - 204)));
  expect(w).toEqual({ dtype: "U8", shape: [3, 68], data_offsets: [0, 204] });
  expect(__metadata__).toEqual({ "mamba-ts.q8_0": '["w"]' });
});

test("blocks are numbers on a backend without the format", async () => {
  const quants = Int8Array.from({ length: 32 }, (_, i) => 3 * i - 50);
  // 0x3800 is the f16 of 0.5.
  const block = Uint8Array.of(0x00, 0x38, ...new Uint8Array(quants.buffer));
  const source = await open(await encodeSafetensors([{ ...tensor("w", "Q8_0", [1, 32]), bytes: () => block }]));
  using backend = createCpuBackend();
  using kept = await readTensor(source, "w", backend);
  expect(kept.dtype).toBe("q8_0");
  using decoded = await readTensor(source, "w", { ...backend, dtypes: new Set(["float32", "int32"]) });
  expect(decoded.dtype).toBe("float32");
  expect(Array.from(await decoded.data())).toEqual(Array.from(quants, (q) => q / 2));
});

test("what cannot be written is refused", async () => {
  const twice = [tensor("a", "F32", [1]), tensor("a", "F32", [2])];
  await expect(encodeSafetensors(twice)).rejects.toThrow(/two tensors are named a/);
  await expect(encodeSafetensors([tensor("__metadata__", "F32", [1])])).rejects.toThrow(/__metadata__/);
  const short = { ...tensor("a", "F32", [3]), bytes: () => new Uint8Array(8) };
  await expect(encodeSafetensors([short])).rejects.toThrow(/tensor a has 8 bytes, its shape says 12/);
  await expect(encodeSafetensors([tensor("a", "Q8_0", [2, 16])])).rejects.toThrow(/no whole number of blocks/);
});

const entry = (dtype: string, shape: unknown, offsets: unknown): string =>
  `{"dtype":"${dtype}","shape":${JSON.stringify(shape)},"data_offsets":${JSON.stringify(offsets)}}`;
const nested = `${"[".repeat(200_000)}${"]".repeat(200_000)}`;

test.each<[string, Uint8Array, RegExp]>([
  ["nothing", new Uint8Array(0), /truncated/],
  ["seven bytes", new Uint8Array(7), /truncated/],
  ["a header longer than the file", fileOf("{}", 0, 1000n), /truncated.*header of 1000 bytes/],
  ["a header beyond the limit", fileOf("{}", 0, 100_000_001n), /exceeds the limit/],
  ["a header of 2^64 - 1", fileOf("{}", 0, 2n ** 64n - 1n), /exceeds the limit/],
  ["an empty header", fileOf(""), /not JSON/],
  ["a header that is not JSON", fileOf("{'a':1}"), /not JSON/],
  ["a header that is an array", fileOf("[]"), /no JSON object/],
  ["a header that is null", fileOf("null"), /no JSON object/],
  ["invalid UTF-8", fileOf(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d)), /not UTF-8/],
  ["blocks that are no dtype", fileOf(`{"a":${entry("Q8_0", [32], [0, 34])}}`, 34), /dtype "Q8_0", which is not known/],
  ...(["[]x", "{}", '["b"]', '["a"]'] as const).map((names): [string, Uint8Array, RegExp] => [
    `${names} for tensors in blocks`,
    fileOf(`{"a":${entry("U8", [33], [0, 33])},"__metadata__":${JSON.stringify({ "mamba-ts.q8_0": names })}}`, 33),
    /mamba-ts.q8_0 (names|is no list)/,
  ]),
  ["data cut short", fileOf(`{"a":${entry("F32", [4], [0, 16])}}`, 12), /truncated: tensor a ends at byte 16 of 12/],
  ["data left over", fileOf(`{"a":${entry("F32", [4], [0, 16])}}`, 17), /take 16 bytes, the file has 17/],
  [
    "an overlap",
    fileOf(`{"a":${entry("F32", [2], [0, 8])},"b":${entry("F32", [2], [4, 12])}}`, 12),
    /tensor b overlaps/,
  ],
  ["a hole", fileOf(`{"a":${entry("U8", [1], [0, 1])},"b":${entry("U8", [1], [3, 4])}}`, 4), /2 bytes before tensor b/],
  ["a hole at the start", fileOf(`{"a":${entry("U8", [1], [1, 2])}}`, 2), /1 bytes before tensor a/],
  ["an unknown dtype", fileOf(`{"a":${entry("F31", [1], [0, 4])}}`, 4), /tensor a has dtype "F31"/],
  ["an inherited name as dtype", fileOf(`{"a":${entry("toString", [1], [0, 4])}}`, 4), /dtype "toString"/],
  ["a dtype nested deeply", fileOf(`{"a":{"dtype":${nested}}}`), /tensor a has dtype/],
  ["a shape nested deeply", fileOf(`{"a":{"dtype":"F32","shape":${nested}}}`), /tensor a has shape/],
  ["a negative size", fileOf(`{"a":${entry("F32", [-1], [0, 4])}}`, 4), /has shape \[-1\]/],
  ["a fractional size", fileOf(`{"a":${entry("F32", [0.5], [0, 2])}}`, 2), /has shape \[0.5\]/],
  ["sizes whose product overflows", fileOf(`{"a":${entry("U8", Array(9).fill(2 ** 40), [0, 0])}}`), /needs .* bytes/],
  ["offsets backwards", fileOf(`{"a":${entry("U8", [1], [4, 3])}}`, 4), /needs 1 bytes/],
  ["three offsets", fileOf(`{"a":${entry("U8", [1], [0, 1, 2])}}`, 1), /data_offsets \[0,1,2\]/],
  ["no offsets", fileOf(`{"a":{"dtype":"U8","shape":[1]}}`, 1), /data_offsets none/],
  ["an entry that is null", fileOf('{"a":null}'), /tensor a has dtype none/],
  ["metadata that is no text", fileOf('{"__metadata__":{"a":1}}'), /__metadata__/],
  ["metadata that is a list", fileOf('{"__metadata__":[]}'), /__metadata__/],
  [
    "a key twice",
    fileOf(`{"a":${entry("U8", [1], [0, 1])},"a":${entry("U8", [1], [0, 1])}}`, 1),
    /tensor a is listed twice/,
  ],
  [
    "a key twice, spelled differently and far from its colon",
    fileOf(`{"a":${entry("U8", [1], [0, 1])},"\\u0061"${" ".repeat(100)}:${entry("U8", [1], [0, 1])}}`, 1),
    /tensor a is listed twice/,
  ],
])("refused: %s", async (_, bytes, message) => {
  const error: unknown = await open(bytes).catch((e: unknown) => e);
  expect(isMambaError(error, "checkpoint")).toBe(true);
  expect((error as Error).message).toMatch(message);
  expect((error as Error).message).toContain("file.safetensors");
  expect((error as Error).message.length).toBeLessThan(1000);
});

test("a key inside metadata or a name like a value's text is no duplicate", async () => {
  const file = fileOf(`{"__metadata__":{"a":"a","dtype":"a"},"a\\\\":${entry("U8", [1], [0, 1])}}`, 1);
  expect((await open(file)).names).toEqual(["a\\"]);
});

test("a name of twenty million characters", async () => {
  const name = "\\n".repeat(20_000_000);
  const source = await open(fileOf(`{"${name}":${entry("U8", [1], [0, 1])}}`, 1));
  expect(source.names[0]?.length).toBe(20_000_000);
});

test("random bytes", () =>
  fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), (bytes) => readAll(bytes)),
    { numRuns: 500 },
  ));

test("random JSON for a header", () => {
  const value = fc.oneof(
    fc.jsonValue(),
    fc.record(
      {
        dtype: fc.oneof(fc.constantFrom(...dtypes), fc.jsonValue()),
        shape: fc.oneof(fc.array(fc.oneof(fc.nat(3), fc.double(), fc.maxSafeInteger())), fc.jsonValue()),
        data_offsets: fc.oneof(fc.tuple(fc.nat(40), fc.nat(40)), fc.jsonValue()),
      },
      { requiredKeys: [] },
    ),
  );
  return fc.assert(
    fc.asyncProperty(fc.dictionary(fc.string(), value), fc.nat(40), (header, size) =>
      readAll(fileOf(JSON.stringify(header), size)),
    ),
    { numRuns: 500 },
  );
});

test("a good file with bytes changed, cut or added", async () => {
  const good = await encodeSafetensors(
    [tensor("a", "F32", [3, 2]), tensor("b", "BF16", [0]), tensor("c", "I64", [2])],
    { format: "pt" },
  );
  const change = fc.record({ at: fc.nat(good.length - 1), to: fc.nat(255) });
  await fc.assert(
    fc.asyncProperty(fc.array(change, { maxLength: 4 }), fc.nat(2 * good.length), async (changes, length) => {
      const bytes = new Uint8Array(length);
      bytes.set(good.subarray(0, length));
      for (const { at, to } of changes) if (at < length) bytes[at] = to;
      await readAll(bytes);
    }),
    { numRuns: 700 },
  );
  for (let length = 0; length < good.length; length++) await expect(open(good.slice(0, length))).rejects.toThrow();
});

test("I64 becomes int32, and what is no int32 is named", async () => {
  const backend = createCpuBackend();
  const write = async (values: bigint[]) =>
    open(
      await encodeSafetensors([
        {
          name: "ids",
          dtype: "I64",
          shape: [values.length],
          bytes: () => new Uint8Array(BigInt64Array.from(values).buffer),
        },
      ]),
    );
  const ends = await readTensor(await write([-(2n ** 31n), 2n ** 31n - 1n]), "ids", backend);
  expect(Array.from(await ends.data())).toEqual([-2147483648, 2147483647]);
  ends.dispose();
  const tooLarge = readTensor(await write([0n, 2n ** 31n]), "ids", backend);
  await expect(tooLarge).rejects.toSatisfy((e) => isMambaError(e, "checkpoint"));
  await expect(readTensor(await write([0n, 2n ** 31n]), "ids", backend)).rejects.toThrow(
    /tensor ids: element 1 is 2147483648/,
  );
});

test("tensors at odd places of a file in memory", async () => {
  const backend = createCpuBackend();
  const header = `{"a":${entry("F32", [2], [0, 8])},"b":${entry("F64", [1], [8, 16])}} `;
  const bytes = fileOf(header.length % 2 === 0 ? `${header} ` : header, 16);
  const view = new DataView(bytes.buffer, bytes.length - 16);
  view.setFloat32(0, 1.5, true);
  view.setFloat32(4, -2, true);
  view.setFloat64(8, 0.1, true);
  const source = await open(bytes);
  for (const [name, values] of Object.entries({ a: [1.5, -2], b: [0.1] })) {
    const read = await readTensor(source, name, backend);
    expect(Array.from(await read.data())).toEqual(values);
    read.dispose();
  }
});
