import type { Shape } from "@mamba-ts/backend";
import { describe, expect, test } from "vitest";
import { at, check, indices, latticeNumbers } from "../test/definitions.js";
import { freeAll, poisonedBackend, randomNumbers, sizeOf, take, upload } from "../test/support.js";

const backend = poisonedBackend();
const floats = ["float32", "float64"] as const;
const random = randomNumbers(1);
const lattice = latticeNumbers(random);

describe("gather and scatterAdd", () => {
  const cases: readonly [Shape, number, Shape][] = [
    [[5, 3], 0, [4]],
    [[5, 40], 0, [2, 3]],
    [[2, 5, 3], 1, [4]],
    [[3, 5], 1, [2, 2]],
    [[5], 0, []],
    [[0, 3], 0, [2]],
    [[5, 3], 0, [0]],
  ];
  for (const dtype of [...floats, "bf16", "int32"] as const)
    test(`${dtype}`, async () => {
      for (const [shape, axis, many] of cases) {
        const chosen = Array.from({ length: sizeOf(many) }, (_, i) => [3, 0, -1, 3, 5, 2 ** 31 - 1][i % 6]!);
        const result = [...shape.slice(0, axis), ...many, ...shape.slice(axis + 1)];
        const split = (index: readonly number[]): [number[], number, number[]] => [
          index.slice(0, axis) as number[],
          at(chosen, many, index.slice(axis, axis + many.length)),
          index.slice(axis + many.length) as number[],
        ];
        const list = { data: chosen, shape: many, dtype: "int32" } as const;
        await check(
          backend,
          [{ data: lattice(sizeOf(shape)).map((x) => 2 * x), shape, dtype }, list],
          (x, i) => backend.gather(x, i, axis),
          (x) =>
            indices(result).map((index) => {
              const [outer, k, inner] = split(index);
              return k >= 0 && k < shape[axis]! ? at(x!, shape, [...outer, k, ...inner]) : 0;
            }),
          { dtype, within: 0 },
        );
        await check(
          backend,
          [list, { data: lattice(sizeOf(result)).map((x) => 2 * x), shape: result, dtype }],
          (i, u) => backend.scatterAdd(shape, i, u, axis),
          (_, u) => {
            const sum = new Array<number>(sizeOf(shape)).fill(0);
            for (const [position, index] of indices(result).entries()) {
              const [outer, k, inner] = split(index);
              if (k < 0 || k >= shape[axis]!) continue;
              sum[[...outer, k, ...inner].reduce((p, i, d) => p * shape[d]! + i, 0)]! += u![position]!;
            }
            return sum;
          },
          { dtype, within: 0 },
        );
      }
    });

  test("a block format comes out as float32, rows or columns", async () => {
    const x = upload(backend, random(3 * 64), [3, 64], "q8_0");
    const dense = await take(backend, backend.cast(x, "float32"));
    for (const [axis, count] of [
      [0, 64],
      [1, 3],
    ] as const) {
      const list = upload(backend, [2, 9e8, 1], [3], "int32");
      const y = backend.gather(x, list, axis);
      expect(y.dtype).toBe("float32");
      const want =
        axis === 0
          ? [...dense.slice(128), ...new Array(64).fill(0), ...dense.slice(64, 128)]
          : [0, 1, 2].flatMap((r) => [dense[64 * r + 2], 0, dense[64 * r + 1]]);
      expect(y.count).toBe(3 * count);
      expect(await take(backend, y)).toEqual(want);
      freeAll(backend, [list]);
    }
    freeAll(backend, [x]);
  });
});
