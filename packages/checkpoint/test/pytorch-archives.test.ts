import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { isMambaError } from "@mamba-ts/backend";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { memoryReader } from "../src/index.js";
import { openPytorch } from "../src/pytorch.js";

// fixtures/make-archives.py writes these.
const read = (name: string): Uint8Array =>
  new Uint8Array(readFileSync(fileURLToPath(new URL(`./fixtures/archives/${name}.pt`, import.meta.url))));
const open = (bytes: Uint8Array) => openPytorch(memoryReader(bytes, "file.pt"));

async function readAll(bytes: Uint8Array): Promise<void> {
  const source = await open(bytes);
  for (const name of source.names) await source.bytes(name);
}

async function refusal(run: Promise<unknown>): Promise<string> {
  const error: unknown = await run.then(
    () => undefined,
    (e: unknown) => e,
  );
  if (!isMambaError(error, "checkpoint")) throw error ?? new Error("not refused");
  return error.message;
}

describe.each(["state", "protocol3", "protocol4", "protocol5"])("%s", (file) => {
  test.each<[string, string, number[], number[]]>([
    ["dense", "F32", [2, 3, 4], Array.from({ length: 24 }, (_, i) => i)],
    [
      "permuted",
      "F32",
      [4, 2, 3],
      [0, 4, 8, 12, 16, 20, 1, 5, 9, 13, 17, 21, 2, 6, 10, 14, 18, 22, 3, 7, 11, 15, 19, 23],
    ],
    ["slice", "F32", [2, 2], [5, 7, 13, 15]],
    ["expanded", "F32", [3, 2], [4, 5, 4, 5, 4, 5]],
    ["scalar", "F32", [], [9]],
    ["empty", "F32", [0, 5], []],
    ["parameter", "F32", [2], [0, 1]],
    ["f64", "F64", [2], [0.1, -2.5]],
    ["f16", "F16", [2], [0x3e00, 0xb400]],
    ["bf16", "BF16", [3], [0x3f80, 0xc040, 0x7f80]],
    ["i64", "I64", [2], [-(2 ** 40), 7]],
    ["i32", "I32", [2], [-7, 2 ** 31 - 1]],
    ["i16", "I16", [1], [-300]],
    ["i8", "I8", [2], [-3, 3]],
    ["u8", "U8", [1], [200]],
    ["bool", "BOOL", [2], [1, 0]],
  ])("%s", async (name, dtype, shape, values) => {
    const source = await open(read(file));
    expect(source.info(name)).toMatchObject({ dtype, shape });
    const { buffer } = (await source.bytes(name)).slice();
    const array = {
      F64: Float64Array,
      F32: Float32Array,
      I64: BigInt64Array,
      I32: Int32Array,
      I16: Int16Array,
      I8: Int8Array,
    }[dtype];
    const typed = new (array ?? (dtype.endsWith("F16") ? Uint16Array : Uint8Array))(buffer);
    expect(Array.from(typed as ArrayLike<number | bigint>, Number)).toEqual(values);
  });

  test("tied tensors, and no tensor for attributes", async () => {
    const source = await open(read(file));
    expect(source.names).toHaveLength(17);
    expect(source.has("_metadata")).toBe(false);
    expect(await source.bytes("tied")).toEqual(await source.bytes("dense"));
    expect(() => source.info("none")).toThrow(/file.pt: there is no tensor none/);
  });
});

test.each<[string, RegExp]>([
  ["os-system", /asks for posix.system, which is not allowed/],
  ["os-system-4", /asks for posix.system, which is not allowed/],
  ["eval", /asks for \w*builtin\w*.eval, which is not allowed/],
  ["storage-called", /calls torch.FloatStorage in a way that is not allowed/],
  ["compressed", /is compressed/],
  ["big-endian", /byte order is big/],
  ["outside", /\[2, 2\] that ends outside its storage of 4/],
  ["outside-by-offset", /\[2\] that ends outside its storage of 4/],
  ["huge", /expands a storage of 4 elements/],
  ["no-storage", /the storage of x is missing/],
  ["short-storage", /the storage of x is missing or too short/],
  ["storage-elsewhere", /no storage/],
  ["negative-stride", /damaged tensor/],
  ["complex", /asks for torch.ComplexFloatStorage/],
  ["number", /step is no tensor/],
  ["text-alone", /it holds no dictionary/],
  ["key-number", /a key of its dictionary is no text/],
  ["key-tuple", /a key of its dictionary is no text/],
  ["set", /instruction 0x8f/],
])("refused: %s", async (name, message) => {
  const text = await refusal(readAll(read(name)));
  expect(text).toMatch(message);
  expect(text).toContain("file.pt");
});

interface Made {
  /** Writes sizes and offsets as zip64 fields, and the end record too. */
  readonly zip64?: boolean;
}

/** A stored zip archive (without checksums, which are not read). */
function zip(files: Record<string, Uint8Array>, { zip64 = false }: Made = {}): Uint8Array {
  const out: number[] = [];
  const put = (size: number, ...values: number[]): void => {
    for (const value of values)
      for (let i = 0; i < size; i++) out.push(i < 6 ? Math.floor(value / 2 ** (8 * i)) % 256 : 0);
  };
  const starts = new Map<string, number>();
  for (const [name, data] of Object.entries(files)) {
    starts.set(name, out.length);
    put(4, 0x04034b50);
    put(2, 20, 0, 0, 0, 0);
    put(4, 0, data.length, data.length);
    put(2, name.length, 0);
    out.push(...new TextEncoder().encode(name), ...data);
  }
  const directory = out.length;
  for (const [name, data] of Object.entries(files)) {
    const size = zip64 ? 0xffffffff : data.length;
    put(4, 0x02014b50);
    put(2, 20, 20, 0, 0, 0, 0);
    put(4, 0, size, size);
    put(2, name.length, zip64 ? 6 + 28 : 0, 0, 0, 0);
    put(4, 0, zip64 ? 0xffffffff : starts.get(name)!);
    out.push(...new TextEncoder().encode(name));
    if (!zip64) continue;
    put(2, 0x4246, 2, 0, 1, 24);
    put(8, data.length, data.length, starts.get(name)!);
  }
  const size = out.length - directory;
  const count = starts.size;
  if (zip64) {
    const record = out.length;
    put(4, 0x06064b50);
    put(8, 44);
    put(2, 45, 45);
    put(4, 0, 0);
    put(8, count, count, size, directory);
    put(4, 0x07064b50, 0);
    put(8, record);
    put(4, 1);
  }
  put(4, 0x06054b50);
  put(2, 0, 0, zip64 ? 0xffff : count, zip64 ? 0xffff : count);
  put(4, zip64 ? 0xffffffff : size, zip64 ? 0xffffffff : directory);
  put(2, 0);
  return Uint8Array.from(out);
}

const ascii = (text: string): number[] => Array.from(new TextEncoder().encode(text));
const text = (value: string): number[] => [0x8c, value.length, ...ascii(value)];
const pickle = (...code: (number | number[])[]): Uint8Array => zip({ "a/data.pkl": Uint8Array.from(code.flat()) });
const rebuild = ascii("ctorch._utils\n_rebuild_tensor_v2\n");
/** A dictionary with one tensor [2] in a storage of two float32. */
const state = Uint8Array.from(
  [
    [0x80, 2, 0x7d],
    text("x"),
    [...rebuild, 0x28, 0x28],
    [...text("storage"), ...ascii("ctorch\nFloatStorage\n"), ...text("0"), ...text("cpu"), 0x4b, 2, 0x74, 0x51],
    [0x4b, 0, 0x4b, 2, 0x85, 0x4b, 1, 0x85, 0x89, 0x7d, 0x74, 0x52, 0x73, 0x2e],
  ].flat(),
);

test.each([false, true])("archives with zip64: %s", async (zip64) => {
  const data = new Uint8Array(Float32Array.of(3, -4).buffer);
  const source = await open(zip({ "a/data.pkl": state, "a/data/0": data }, { zip64 }));
  expect(source.names).toEqual(["x"]);
  expect(await source.bytes("x")).toEqual(data);
});

test("an archive without a pickle", async () => {
  expect(await refusal(readAll(zip({ "a/other": state })))).toMatch(/no data.pkl/);
});

test.each<[string, (number | number[])[], RegExp]>([
  ["an instruction that calls (INST)", [0x28, 0x69, ascii("os\nsystem\n"), 0x2e], /instruction 0x69/],
  ["an instruction that makes objects (NEWOBJ)", [0x81, 0x2e], /instruction 0x81/],
  ["an instruction that does not exist", [0xff, 0x2e], /instruction 0xff/],
  ["nothing", [], /truncated/],
  ["no end", [0x7d], /truncated/],
  ["only an end", [0x2e], /takes more than it has put/],
  ["text cut short", [0x58, 0xff, 0xff, 0xff, 0xff, 0x61], /truncated/],
  ["a line without end", [0x63, ascii("torch")], /truncated/],
  ["text that is not UTF-8", [0x7d, 0x8c, 1, 0xff, 0x4e, 0x73, 0x2e], /not UTF-8/],
  ["no mark", [0x4e, 0x74, 0x2e], /no mark/],
  ["a tuple of more than there is", [0x4e, 0x87, 0x2e], /takes more/],
  ["a recall of nothing", [0x68, 7, 0x2e], /recalls 7/],
  ["remembering nothing", [0x71, 0, 0x2e], /remembers nothing/],
  ["items of a list", [0x5d, text("x"), 0x4e, 0x73, 0x2e], /no dictionary/],
  ["an odd number of items", [0x7d, 0x28, 0x4e, 0x75, 0x2e], /no dictionary/],
  ["an append to a dictionary", [0x7d, 0x4e, 0x61, 0x2e], /no list/],
  ["a name that is no text", [0x5d, 0x5d, 0x93, 0x2e], /name is no text/],
  ["attributes of a list", [0x5d, 0x7d, 0x62, 0x2e], /no dictionary/],
  ["a call of a number", [0x4b, 1, 0x29, 0x52, 0x2e], /calls something/],
  ["a call without arguments", [rebuild, 0x4e, 0x52, 0x2e], /calls without arguments/],
  ["a tensor of nothing", [rebuild, 0x29, 0x52, 0x2e], /damaged tensor/],
  ["a persistent id that is none", [text("0"), 0x51, 0x2e], /no storage/],
])("refused pickle: %s", async (_, code, message) => {
  expect(await refusal(readAll(pickle(...code)))).toMatch(message);
});

test("lists that double in text at every level, and nest deeply, are named without being written out", async () => {
  // BINGET 0 twice in a new list, fifty times over; a tuple of them all is a key of a dictionary.
  const double = (i: number): number[] => [0x5d, 0x28, 0x68, i, 0x68, i, 0x65, 0x71, i + 1];
  const doubled = [0x5d, 0x71, 0, ...Array.from({ length: 50 }, (_, i) => double(i)).flat()];
  expect(await refusal(readAll(pickle(0x7d, 0x28, doubled, 0x74, 0x4e, 0x73, 0x2e)))).toMatch(/key .* is no text/);
  const deep = [0x29, ...new Array<number>(100_000).fill(0x85)];
  expect(await refusal(readAll(pickle(0x7d, deep, 0x4e, 0x73, 0x2e)))).toMatch(/a key of its dictionary is no text/);
  expect(await refusal(readAll(pickle(deep, text("x"), 0x93, 0x2e)))).toMatch(/name is no text/);
});

test("every prefix, and random changes, give a typed error or tensors", async () => {
  const good = zip({ "a/data.pkl": state, "a/data/0": new Uint8Array(8) }, { zip64: true });
  for (let length = 0; length < good.length; length++) await refusal(readAll(good.slice(0, length)));
  const change = fc.record({ at: fc.nat(good.length - 1), to: fc.nat(255) });
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 3 }), async (changes) => {
      const bytes = good.slice();
      for (const { at, to } of changes) bytes[at] = to;
      await readAll(bytes).catch((error: unknown) => {
        if (!isMambaError(error)) throw error;
      });
    }),
    { numRuns: 1500 },
  );
});

test("random pickles", () =>
  fc.assert(
    fc.asyncProperty(fc.array(fc.oneof(fc.nat(255), fc.constantFrom(...state)), { maxLength: 60 }), async (code) => {
      await readAll(pickle(code)).catch((error: unknown) => {
        if (!isMambaError(error)) throw error;
      });
    }),
    { numRuns: 2000 },
  ));
