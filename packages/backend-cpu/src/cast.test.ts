import type { Buf, DType } from "@mamba-ts/backend";
import { describe, expect, test } from "vitest";
import { check, tolerance } from "../test/definitions.js";
import { freeAll, poisonedBackend, sizeOf, take, upload } from "../test/support.js";

const backend = poisonedBackend();

describe("cast and fill", () => {
  test("between all formats", async () => {
    const numbers = [0, -0.5, 1.75, -3, 100, 60000, 1e-3, ...new Array(25).fill(2)];
    for (const from of ["float32", "float64", "bf16", "f16"] as const)
      for (const to of ["float32", "float64", "bf16", "f16"] as const)
        await check(
          backend,
          [{ data: numbers, shape: [32], dtype: from }],
          (x) => backend.cast(x, to),
          (x) => x,
          { dtype: to, within: tolerance[to === "float64" ? "float64" : to]! },
        );
    const integers = await take(backend, castOf([1.9, -1.9, 0.4, -0.4, 7], "int32"));
    expect(integers.map((x) => x + 0)).toEqual([1, -1, 0, 0, 7]);
    const blocks = await take(
      backend,
      castOf(numbers.slice(7), "q8_0", [...numbers.slice(7), ...new Array(7).fill(-2)]),
    );
    expect(blocks.map((x) => Math.round(1000 * x))).toEqual([...new Array(25).fill(2000), ...new Array(7).fill(-2000)]);
  });

  function castOf(data: readonly number[], to: DType, all: readonly number[] = data): Buf {
    const x = upload(backend, all, [all.length], "float32");
    const y = backend.cast(x, to);
    freeAll(backend, [x]);
    return y;
  }

  test("fill", async () => {
    for (const dtype of ["float32", "float64", "bf16", "f16", "int32"] as const)
      for (const shape of [[], [0], [2, 3]])
        expect(await take(backend, backend.fill(shape, -2, dtype))).toEqual(new Array(sizeOf(shape)).fill(-2));
  });
});
