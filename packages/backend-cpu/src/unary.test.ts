import type { UnaryOp } from "@mamba-ts/backend";
import { describe, test } from "vitest";
import { check, tolerance } from "../test/definitions.js";
import { poisonedBackend, randomNumbers, sizeOf } from "../test/support.js";

const backend = poisonedBackend();
const floats = ["float32", "float64"] as const;
const random = randomNumbers(1);

describe("unary", () => {
  const definitions: { readonly [K in UnaryOp]: (x: number) => number } = {
    neg: (x) => 0 - x,
    abs: (x) => (x < 0 ? -x : x),
    sign: Math.sign,
    exp: Math.exp,
    log: Math.log,
    sqrt: Math.sqrt,
    rsqrt: (x) => x ** -0.5,
    reciprocal: (x) => x ** -1,
    sin: Math.sin,
    cos: Math.cos,
    tanh: Math.tanh,
    sigmoid: (x) => (1 + Math.tanh(x / 2)) / 2,
    softplus: (x) => Math.log(1 + Math.exp(x)),
    erf: (x) => {
      // Simpson's rule on the definition.
      const n = 2000;
      let sum = 0;
      for (let i = 0; i <= n; i++)
        sum += (i === 0 || i === n ? 1 : i % 2 === 1 ? 4 : 2) * Math.exp(-(((x * i) / n) ** 2));
      return ((2 / Math.sqrt(Math.PI)) * sum * x) / n / 3;
    },
    floor: (x) => x - (((x % 1) + 1) % 1),
  };
  const positive = new Set(["log", "sqrt", "rsqrt", "reciprocal"]);
  for (const op of Object.keys(definitions) as UnaryOp[])
    for (const dtype of [...floats, "bf16", "f16"] as const)
      test(`${op} ${dtype}`, async () => {
        for (const shape of [[], [0], [7], [3, 5, 2]]) {
          const data = random(sizeOf(shape)).map((x) => (positive.has(op) ? 2.1 + 2 * x : 3 * x));
          const within = Math.max(tolerance[dtype]!, op === "erf" ? 1e-11 : 1e-13);
          await check(
            backend,
            [{ data, shape, dtype }],
            (x) => backend.unary(op, x),
            (x) => x.map(definitions[op]),
            { dtype, within },
          );
        }
      });
});
