import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { isMambaError } from "@mamba-ts/backend";
import { memoryReader } from "@mamba-ts/checkpoint";
import { openPytorch } from "@mamba-ts/checkpoint/pytorch";
import { expect, test } from "vitest";

const read = (name: string): Uint8Array =>
  new Uint8Array(readFileSync(fileURLToPath(new URL(`./fixtures/${name}`, import.meta.url))));

test("tensors, strided and bf16, in row-major order", async () => {
  const source = await openPytorch(memoryReader(read("small.bin"), "small.bin"));
  const floats = async (name: string): Promise<number[]> =>
    Array.from(new Float32Array((await source.bytes(name)).slice().buffer));
  expect(source.names).toEqual(["dense", "transposed", "tail", "bf16"]);
  expect(await floats("dense")).toEqual([1, 2, 3, 4, 5, 6]);
  expect([source.info("transposed").shape, await floats("transposed")]).toEqual([
    [3, 2],
    [1, 4, 2, 5, 3, 6],
  ]);
  expect(await floats("tail")).toEqual([5, 6]);
  expect([source.info("bf16").dtype, Array.from(await source.bytes("bf16"))]).toEqual([
    "BF16",
    [0x80, 0x3f, 0, 0x40, 0x40, 0xc0],
  ]);
});

test("a dictionary around the weights is named, and can be opened", async () => {
  const reader = memoryReader(read("nested.bin"), "nested.bin");
  await expect(openPytorch(reader)).rejects.toThrow(/model is no tensor\n.*key: "model"/);
  expect((await openPytorch(reader, { key: "model" })).names).toContain("dense");
});

test("nothing but tensors: a pickle that asks for a function is refused by its name", async () => {
  await expect(openPytorch(memoryReader(read("hostile.bin"), "hostile.bin"))).rejects.toThrow(
    /hostile.bin: the pickle asks for posix.system/,
  );
});

test("whatever is cut or changed gives a typed error", async () => {
  const whole = read("small.bin");
  for (let i = 0; i < whole.length; i += 7) {
    const changed = whole.slice();
    changed[i]! ^= 0x5a;
    for (const bytes of [whole.slice(0, i), changed]) {
      try {
        const source = await openPytorch(memoryReader(bytes));
        for (const name of source.names) await source.bytes(name);
      } catch (error) {
        expect(isMambaError(error)).toBe(true);
      }
    }
  }
});
