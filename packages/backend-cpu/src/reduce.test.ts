import type { Shape } from "@mamba-ts/backend";
import { describe, expect, test } from "vitest";
import { at, check, indices, latticeNumbers } from "../test/definitions.js";
import { freeAll, poisonedBackend, randomNumbers, sizeOf, take, upload } from "../test/support.js";

const backend = poisonedBackend();
const floats = ["float32", "float64"] as const;
const lattice = latticeNumbers(randomNumbers(1));

describe("reductions", () => {
  const shapes: readonly Shape[] = [[7], [3, 4, 5], [1, 9], [130, 2], [0, 3], [3, 0], [2, 3, 0, 2]];
  for (const dtype of [...floats, "int32", "f16"] as const)
    test(`sum and max ${dtype}`, async () => {
      for (const shape of shapes)
        for (let axis = 0; axis < shape.length; axis++) {
          const rest = shape.filter((_, d) => d !== axis);
          const along = (x: number[], i: readonly number[]): number[] =>
            Array.from({ length: shape[axis]! }, (_, k) => at(x, shape, [...i.slice(0, axis), k, ...i.slice(axis)]));
          const input = [{ data: lattice(sizeOf(shape)).map((x) => 2 * x), shape, dtype }];
          const lowest = dtype === "int32" ? -(2 ** 31) : Number.NEGATIVE_INFINITY;
          const options = { dtype, within: 0 };
          await check(
            backend,
            input,
            (x) => backend.reduce("sum", x, axis),
            (x) => indices(rest).map((i) => along(x, i).reduce((s, v) => s + v, 0)),
            options,
          );
          await check(
            backend,
            input,
            (x) => backend.reduce("max", x, axis),
            (x) => indices(rest).map((i) => along(x, i).reduce((m, v) => Math.max(m, v), lowest)),
            options,
          );
          if (shape[axis]! > 0)
            for (const op of ["max", "min"] as const)
              await check(
                backend,
                input,
                (x) => backend.argReduce(op, x, axis),
                (x) => indices(rest).map((i) => along(x, i).indexOf(Math[op](...along(x, i)))),
                { dtype: "int32", within: 0 },
              );
        }
    });

  test("a long float32 sum does not drift", async () => {
    const x = upload(backend, new Array(100_003).fill(0.1), [100_003], "float32");
    expect((await take(backend, backend.reduce("sum", x, 0)))[0]).toBe(Math.fround(Math.fround(0.1) * 100_003));
    freeAll(backend, [x]);
  });

  test("NaN is the maximum, and the first of the extremes is found", async () => {
    const x = upload(backend, [3, Number.NaN, 9, Number.NaN, 5, 9, 9, 1, 1], [3, 3], "float32");
    expect(await take(backend, backend.reduce("max", x, 1))).toEqual([Number.NaN, Number.NaN, 9]);
    expect(await take(backend, backend.argReduce("max", x, 1))).toEqual([1, 0, 0]);
    expect(await take(backend, backend.argReduce("min", x, 1))).toEqual([1, 0, 1]);
    freeAll(backend, [x]);
  });
});
