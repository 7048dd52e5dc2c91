import { describe, test } from "vitest";
import { at, check, indices, tolerance } from "../test/definitions.js";
import { poisonedBackend, randomNumbers, sizeOf } from "../test/support.js";

const backend = poisonedBackend();
const floats = ["float32", "float64"] as const;
const random = randomNumbers(1);

describe("matmul", () => {
  const sizes: readonly [number, number, number][] = [
    [1, 1, 1],
    [3, 5, 7],
    [4, 4, 4],
    [5, 6, 9],
    [2, 700, 6],
    [9, 1100, 5],
    [130, 3, 11],
    [1, 6, 130],
    [0, 2, 3],
    [3, 2, 0],
    [3, 0, 2],
  ];
  for (const transA of [false, true])
    for (const transB of [false, true])
      for (const dtype of floats)
        test(`${transA ? "T" : "N"}${transB ? "T" : "N"} ${dtype}`, async () => {
          for (const [m, k, n] of sizes) {
            const [s, t] = [transA ? [k, m] : [m, k], transB ? [n, k] : [k, n]];
            await check(
              backend,
              [
                { data: random(m * k), shape: s, dtype },
                { data: random(k * n), shape: t, dtype },
              ],
              (a, b) => backend.matmul(a, b, { transA, transB, out: dtype }),
              (a, b) =>
                indices([m, n]).map(([i, j]) => {
                  let sum = 0;
                  for (let p = 0; p < k; p++)
                    sum += a[transA ? p * m + i! : i! * k + p]! * b[transB ? j! * k + p : p * n + j!]!;
                  return sum;
                }),
              { dtype, within: tolerance[dtype]! },
            );
          }
        });

  test("leading axes broadcast, and the result has the dtype asked for", async () => {
    for (const [leadA, leadB, lead] of [
      [[2, 3], [3], [2, 3]],
      [[], [2], [2]],
      [
        [4, 1],
        [1, 2],
        [4, 2],
      ],
      [[0], [1], [0]],
    ] as const)
      for (const out of ["float32", "bf16", "f16"] as const)
        await check(
          backend,
          [
            { data: random(sizeOf(leadA) * 15), shape: [...leadA, 5, 3], dtype: "bf16" },
            { data: random(sizeOf(leadB) * 6), shape: [...leadB, 3, 2], dtype: "float32" },
          ],
          (a, b) => backend.matmul(a!, b!, { transA: false, transB: false, out }),
          (a, b) =>
            indices([...lead, 5, 2]).map((index) => {
              const [batch, [i, j]] = [index.slice(0, -2), index.slice(-2) as [number, number]];
              return [0, 1, 2].reduce(
                (sum, p) =>
                  sum + at(a!, [...leadA, 5, 3], [...batch, i, p]) * at(b!, [...leadB, 3, 2], [...batch, p, j]),
                0,
              );
            }),
          { dtype: out, within: tolerance[out]! },
        );
  });
});
