import type { BinaryOp, CompareOp, Operand, Shape } from "@mamba-ts/backend";
import { describe, expect, test } from "vitest";
import { at, check, indices, latticeNumbers, tolerance } from "../test/definitions.js";
import { freeAll, poisonedBackend, randomNumbers, sizeOf, take, upload } from "../test/support.js";

const backend = poisonedBackend();
const floats = ["float32", "float64"] as const;
const random = randomNumbers(1);
const lattice = latticeNumbers(random);

describe("binary, compare and where", () => {
  const shapes: readonly [Shape, Shape][] = [
    [
      [3, 4, 5],
      [3, 4, 5],
    ],
    [[3, 4, 5], [5]],
    [[5], [3, 4, 5]],
    [
      [3, 4, 5],
      [4, 1],
    ],
    [
      [3, 1, 5],
      [1, 4, 1],
    ],
    [
      [2, 1, 3, 1],
      [5, 1, 2],
    ],
    [[4], []],
    [[], []],
    [[1, 1], [1]],
    [[0, 3], [3]],
    [
      [2, 0],
      [2, 1],
    ],
  ];
  const broadcast = (a: Shape, b: Shape): Shape => {
    const rank = Math.max(a.length, b.length);
    const size = (s: Shape, d: number): number => s[d - rank + s.length] ?? 1;
    return Array.from({ length: rank }, (_, d) => (size(a, d) === 1 ? size(b, d) : size(a, d)));
  };
  const binary: { readonly [K in BinaryOp]: (a: number, b: number) => number } = {
    add: (a, b) => a + b,
    sub: (a, b) => a - b,
    mul: (a, b) => a * b,
    div: (a, b) => a / b,
    max: Math.max,
    min: Math.min,
    pow: (a, b) => Math.exp(b * Math.log(a)),
  };
  for (const op of Object.keys(binary) as BinaryOp[])
    for (const dtype of [...floats, "bf16", "int32"] as const)
      if (dtype !== "int32" || (op !== "div" && op !== "pow"))
        test(`${op} ${dtype}`, async () => {
          for (const [s, t] of shapes) {
            const shape = broadcast(s, t);
            const numbers = (n: number): number[] =>
              random(n).map((x) => (dtype === "int32" ? Math.round(1e5 * x) : op === "pow" ? x + 1.5 : x + 3));
            await check(
              backend,
              [
                { data: numbers(sizeOf(s)), shape: s, dtype },
                { data: numbers(sizeOf(t)), shape: t, dtype },
              ],
              (a, b) => backend.binary(op, a, b),
              (a, b) =>
                indices(shape)
                  .map((i) => binary[op](at(a!, s, i), at(b!, t, i)))
                  .map((y) => (dtype === "int32" ? Number(BigInt.asIntN(32, BigInt(y))) : y)),
              { dtype, within: dtype === "int32" ? 0 : tolerance[dtype]! },
            );
          }
        });

  test("int32 wraps around", async () => {
    const big = { data: [2 ** 31 - 1, -(2 ** 31), 123456789], shape: [3], dtype: "int32" } as const;
    const factor = { data: [2, -1, 987654321], shape: [3], dtype: "int32" } as const;
    const exact = (f: (a: bigint, b: bigint) => bigint) => (a: number[], b: number[]) =>
      a.map((x, i) => Number(BigInt.asIntN(32, f(BigInt(x), BigInt(b[i]!)))));
    const options = { dtype: "int32", within: 0 } as const;
    await check(
      backend,
      [big, factor],
      (a, b) => backend.binary("mul", a, b),
      exact((a, b) => a * b) as never,
      options,
    );
    await check(
      backend,
      [big, factor],
      (a, b) => backend.binary("add", a, b),
      exact((a, b) => a + b) as never,
      options,
    );
    await check(
      backend,
      [big, factor],
      (a, b) => backend.binary("sub", a, b),
      exact((a, b) => a - b) as never,
      options,
    );
  });

  test("max and min pass NaN on; comparisons with NaN are 0, but ne", async () => {
    const [a, b] = [
      [Number.NaN, 1, Number.NaN],
      [1, Number.NaN, Number.NaN],
    ].map((data) => upload(backend, data, [3], "float32")) as [Operand, Operand];
    for (const op of ["max", "min"] as const)
      expect(await take(backend, backend.binary(op, a, b))).toEqual([Number.NaN, Number.NaN, Number.NaN]);
    for (const op of ["eq", "lt", "le", "gt", "ge"] as const)
      expect(await take(backend, backend.compare(op, a, b))).toEqual([0, 0, 0]);
    expect(await take(backend, backend.compare("ne", a, b))).toEqual([1, 1, 1]);
    freeAll(backend, [a, b]);
  });

  const compare: { readonly [K in CompareOp]: (order: number) => boolean } = {
    eq: (order) => order === 0,
    ne: (order) => order !== 0,
    lt: (order) => order < 0,
    le: (order) => order <= 0,
    gt: (order) => order > 0,
    ge: (order) => order >= 0,
  };
  for (const op of Object.keys(compare) as CompareOp[])
    test(`compare ${op}`, async () => {
      for (const dtype of [...floats, "int32"] as const)
        for (const [s, t] of shapes)
          await check(
            backend,
            [
              { data: lattice(sizeOf(s)).map((x) => 2 * x), shape: s, dtype },
              { data: lattice(sizeOf(t)).map((x) => 2 * x), shape: t, dtype },
            ],
            (a, b) => backend.compare(op, a, b),
            (a, b) => indices(broadcast(s, t)).map((i) => (compare[op](at(a!, s, i) - at(b!, t, i)) ? 1 : 0)),
            { dtype: "int32", within: 0 },
          );
    });

  test("where broadcasts all three, and shows nothing of what it does not select", async () => {
    for (const [s, t] of shapes)
      for (const c of [s, t, [1], []]) {
        const shape = broadcast(broadcast(s, t), c);
        await check(
          backend,
          [
            { data: Array.from({ length: sizeOf(c) }, (_, i) => [0, 7, -1][i % 3]!), shape: c, dtype: "int32" },
            { data: lattice(sizeOf(s)), shape: s, dtype: "float32" },
            { data: lattice(sizeOf(t)), shape: t, dtype: "float32" },
          ],
          (cond, a, b) => backend.where(cond!, a!, b!),
          (cond, a, b) => indices(shape).map((i) => (at(cond!, c, i) !== 0 ? at(a!, s, i) : at(b!, t, i))),
          { dtype: "float32", within: 0 },
        );
      }
    const nan = { data: [Number.NaN], shape: [1], dtype: "float64" } as const;
    const cond = { data: [1, 0], shape: [2], dtype: "int32" } as const;
    const one = { data: [1], shape: [], dtype: "float64" } as const;
    await check(
      backend,
      [cond, one, nan],
      (c, a, b) => backend.where(c!, a!, b!),
      () => [1, Number.NaN],
      { dtype: "float64", within: 0 },
    );
  });
});
