// Every primitive beside backend-cpu's, which is the definition, on odd shapes and in every dtype.
import type { Backend, DType, FloatDType, Operand, Shape } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { relativeError } from "@mamba-ts/backend-testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createBackend } from "../src/index.js";
import { put, randomNumbers, sizeOf, take } from "./support.js";

let wasm: Backend;
const cpu = createCpuBackend();
beforeAll(async () => {
  wasm = await createBackend({ poison: true });
});
afterAll(() => wasm[Symbol.dispose]());

type Input = readonly [shape: Shape, dtype?: DType, draw?: (u: number) => number];
const normal = (u: number): number => 4 * u - 2;
const ids =
  (low: number, high: number) =>
  (u: number): number =>
    low + Math.floor(u * (high - low));

/** Runs the same on both backends; exact where `within` is 0. */
async function same(
  inputs: readonly Input[],
  run: (backend: Backend, ...operands: Operand[]) => Operand["buf"],
  within = 0,
): Promise<void> {
  const random = randomNumbers(7);
  const values = inputs.map(([shape, , draw = normal]) => Array.from({ length: sizeOf(shape) }, () => draw(random())));
  const [got, want] = await Promise.all(
    [wasm, cpu].map(async (backend) => {
      const before = backend.memory().liveBuffers;
      const operands = inputs.map(([shape, dtype], i) => put(backend, values[i]!, shape, dtype));
      const result = await take(backend, run(backend, ...operands));
      for (const { buf } of operands) backend.free(buf);
      expect(backend.memory().liveBuffers).toBe(before);
      return result;
    }),
  );
  expect(got!.length).toBe(want!.length);
  if (within === 0) expect(got).toEqual(want);
  else expect(relativeError(got!, want!)).toBeLessThan(within);
}

const stored: readonly DType[] = ["float32", "bf16", "f16", "int32"];
const floats: readonly FloatDType[] = ["float32", "bf16", "f16"];
const broadcasts: readonly (readonly [Shape, Shape])[] = [
  [[7], [7]],
  [[3, 5], [5]],
  [
    [4, 3, 1],
    [3, 6],
  ],
  [[], [2, 9]],
  [
    [2, 1, 5, 1],
    [3, 1, 4],
  ],
  [
    [1, 2049],
    [3, 1],
  ],
  [[6000], [1]],
];

test("unary, over odd lengths", async () => {
  for (const n of [1, 3, 4, 5, 2047, 2050, 9001])
    for (const op of ["neg", "abs", "sign", "sqrt", "floor", "exp", "sigmoid", "softplus", "tanh", "erf"] as const)
      await same([[[n]]], (b, x) => b.unary(op, x), op === "sqrt" ? 0 : 1e-6);
  for (const op of ["log", "rsqrt", "reciprocal", "sin", "cos"] as const)
    await same([[[513], "float32", (u) => 1e-3 + 20 * u]], (b, x) => b.unary(op, x), 1e-6);
  for (const op of ["neg", "abs", "sign"] as const) await same([[[11], "int32", ids(-3, 4)]], (b, x) => b.unary(op, x));
  for (const dtype of floats) await same([[[33], dtype]], (b, x) => b.unary("exp", x), 1e-2);
});

test("binary, compare and where broadcast as NumPy does", async () => {
  for (const [p, q] of broadcasts) {
    for (const op of ["add", "sub", "mul", "div", "max", "min"] as const)
      await same([[p], [q]], (b, x, y) => b.binary(op, x, y));
    await same([[p, "float32", (u) => 3 * u], [q]], (b, x, y) => b.binary("pow", x, y), 1e-6);
    for (const op of ["add", "sub", "mul", "max", "min"] as const)
      await same(
        [
          [p, "int32", ids(-9, 9)],
          [q, "int32", ids(-9, 9)],
        ],
        (b, x, y) => b.binary(op, x, y),
      );
    for (const op of ["eq", "ne", "lt", "le", "gt", "ge"] as const)
      for (const dtype of stored)
        await same(
          [
            [p, dtype, ids(-2, 2)],
            [q, dtype, ids(-2, 2)],
          ],
          (b, x, y) => b.compare(op, x, y),
        );
    for (const dtype of stored)
      await same(
        [
          [p, "int32", ids(0, 2)],
          [q, dtype, ids(-8, 8)],
          [q.slice(-1), dtype, ids(-8, 8)],
        ],
        (b, c, x, y) => b.where(c, x, y),
      );
  }
});

test("cast between all dtypes, and numbers at their borders", async () => {
  const dtypes: readonly DType[] = ["float32", "bf16", "f16", "int32", "q8_0"];
  for (const from of dtypes)
    for (const to of dtypes) await same([[[96], from, (u) => 300 * u - 150]], (b, x) => b.cast(x, to));
  const border = [65504, 65519.99, 65520, 6e-8, 2.9e-8, 3e-8, 6.1e-5, 1e-45, 3.4e38, 2.7e9, -5e9, -0.9, 1 + 2 ** -8];
  for (const to of ["bf16", "f16", "int32"] as const) {
    const got = await take(wasm, wasm.cast(put(wasm, border, [border.length]), to));
    expect(got).toEqual(await take(cpu, cpu.cast(put(cpu, border, [border.length]), to)));
  }
});

test("fill, copy, pad, concat, gather", async () => {
  for (const dtype of stored) {
    await same([], (b) => b.fill([3, 5], -2, dtype));
    const draw = ids(-9, 9);
    const view = { offset: 19, shape: [2, 3, 5], strides: [-15, 5, -1], dtype };
    await same([[[2, 3, 5], dtype, draw]], (b, { buf }) => b.copy({ ...view, buf }));
    await same([[[6, 700], dtype, draw]], (b, { buf }) =>
      b.copy({ buf, offset: 3, shape: [2, 690, 3], strides: [700, 1, 1400], dtype }),
    );
    for (const [before, after] of [
      [2, 0],
      [-1, 3],
      [-2, -1],
      [0, 0],
    ] as const)
      await same([[[3, 5, 2], dtype, draw]], (b, x) => b.pad(x, 1, before, after));
    await same(
      [
        [[2, 3, 4], dtype, draw],
        [[2, 0, 4], dtype],
        [[2, 2, 4], dtype, draw],
      ],
      (b, ...xs) => b.concat(xs, 1),
    );
    for (const axis of [0, 1, 2])
      await same(
        [
          [[3, 5, 20], dtype, draw],
          [[2, 3], "int32", ids(-1, 6)],
        ],
        (b, x, i) => b.gather(x, i, axis),
      );
  }
  await same(
    [
      [[5, 64], "q8_0"],
      [[4], "int32", ids(-1, 6)],
    ],
    (b, x, i) => b.gather(x, i, 0),
  );
  await same(
    [
      [[2, 64], "q8_0"],
      [[4], "int32", ids(-1, 66)],
    ],
    (b, x, i) => b.gather(x, i, 1),
  );
});

test("reduce, argReduce, scatterAdd, linearScan", async () => {
  for (const shape of [
    [3, 7, 5],
    [2, 1030, 1],
    [1, 600, 33],
    [4, 1, 16],
  ])
    for (const dtype of stored) {
      const draw = dtype === "int32" ? ids(-5, 5) : normal;
      const within = dtype === "float32" ? 1e-6 : dtype === "int32" ? 0 : 1e-2;
      for (const axis of [0, 1, 2]) {
        await same([[shape, dtype, draw]], (b, x) => b.reduce("sum", x, axis), within);
        await same([[shape, dtype, draw]], (b, x) => b.reduce("max", x, axis));
        await same([[shape, dtype, ids(-3, 3)]], (b, x) => b.argReduce("max", x, axis));
        await same([[shape, dtype, ids(-3, 3)]], (b, x) => b.argReduce("min", x, axis));
        const many = shape.map((n, d) => (d === axis ? 9 : n));
        await same(
          [
            [[9], "int32", ids(-1, shape[axis]! + 1)],
            [many, dtype, ids(-4, 4)],
          ],
          (b, i, x) => b.scatterAdd(shape, i, x, axis),
        );
        if (dtype !== "int32")
          for (const reverse of [false, true])
            await same(
              [
                [shape, dtype, (u) => u - 0.1],
                [shape, dtype],
              ],
              (b, x, y) => b.linearScan(x, y, axis, reverse),
              within,
            );
      }
    }
});

test("matmul in every layout, with odd sizes, few rows and few columns", async () => {
  const sizes = [
    [1, 1, 1],
    [1, 37, 50],
    [3, 12, 8],
    [4, 70, 33],
    [5, 13, 1],
    [97, 1, 31],
    [100, 25, 300],
    [13, 1550, 5],
    [2, 3, 0],
  ] as const;
  for (const [m, n, k] of sizes)
    for (const transA of [false, true])
      for (const transB of [false, true]) {
        const shapes = [transA ? [k, m] : [m, k], transB ? [n, k] : [k, n]] as const;
        const options = { transA, transB, out: "float32" } as const;
        await same([[shapes[0]], [shapes[1]]], (b, x, y) => b.matmul(x, y, options), 2e-6);
      }
  const options = { transA: false, transB: true, out: "float32" } as const;
  await same([[[2, 1, 3, 5]], [[4, 2, 5]]], (b, x, y) => b.matmul(x, y, options), 1e-6);
  for (const dtype of floats)
    await same(
      [
        [[6, 40], dtype],
        [[7, 40], dtype],
      ],
      (b, x, y) => b.matmul(x, y, { ...options, out: dtype }),
      1e-2,
    );
});
