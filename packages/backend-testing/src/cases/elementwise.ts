import type { BinaryOp, CompareOp, Shape } from "@mamba-ts/backend";
import * as t from "@mamba-ts/tensor";
import { at, build, type OpCase } from "../case.js";

/** erf by its power series in float64: slow, and independent of how any backend does it. */
export function erf(x: number): number {
  let [term, sum] = [x, x];
  for (let n = 1; n < 200; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

const unary: readonly [string, (x: t.Tensor) => t.Tensor, (x: number) => number, [number, number]][] = [
  ["neg", t.neg, (x) => -x, [-3, 3]],
  ["abs", t.abs, Math.abs, [-3, 3]],
  ["sign", t.sign, Math.sign, [-3, 3]],
  ["floor", t.floor, Math.floor, [-3, 3]],
  ["exp", t.exp, Math.exp, [-3, 3]],
  ["log", t.log, Math.log, [0.1, 4]],
  ["sqrt", t.sqrt, Math.sqrt, [0.1, 4]],
  ["rsqrt", t.rsqrt, (x) => 1 / Math.sqrt(x), [0.1, 4]],
  ["reciprocal", t.reciprocal, (x) => 1 / x, [0.3, 4]],
  ["sin", t.sin, Math.sin, [-4, 4]],
  ["cos", t.cos, Math.cos, [-4, 4]],
  ["tanh", t.tanh, Math.tanh, [-3, 3]],
  ["sigmoid", t.sigmoid, (x) => 1 / (1 + Math.exp(-x)), [-6, 6]],
  ["softplus", t.softplus, (x) => (x > 20 ? x : Math.log1p(Math.exp(x))), [-15, 30]],
  ["erf", t.erf, erf, [-3, 3]],
  ["silu", t.silu, (x) => x / (1 + Math.exp(-x)), [-6, 6]],
  ["relu", t.relu, (x) => Math.max(0, x), [-3, 3]],
  ["gelu", t.gelu, (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)), [-3, 3]],
];

const binary: readonly [BinaryOp, (a: t.Tensor, b: t.Tensor) => t.Tensor, (a: number, b: number) => number][] = [
  ["add", t.add, (a, b) => a + b],
  ["sub", t.sub, (a, b) => a - b],
  ["mul", t.mul, (a, b) => a * b],
  ["div", t.div, (a, b) => a / b],
  ["max", t.maximum, Math.max],
  ["min", t.minimum, Math.min],
  ["pow", t.pow, (a, b) => a ** b],
];

const compares: readonly [CompareOp, (a: number, b: number) => boolean][] = [
  ["eq", (a, b) => a === b],
  ["ne", (a, b) => a !== b],
  ["lt", (a, b) => a < b],
  ["le", (a, b) => a <= b],
  ["gt", (a, b) => a > b],
  ["ge", (a, b) => a >= b],
];

/** Functions with corners or jumps: their inputs keep away from them. */
const kinked = new Set(["abs", "sign", "floor", "relu", "max", "min"]);

const broadcasts: readonly (readonly [Shape, Shape])[] = [
  [
    [3, 5],
    [3, 5],
  ],
  [[2, 3, 5], [5]],
  [
    [2, 1, 5],
    [3, 1],
  ],
  [[7], []],
  [[0, 3], [3]],
  [
    [1, 33],
    [65, 1],
  ],
];

export const elementwiseCases: readonly OpCase[] = [
  ...unary.map(
    ([op, run, f, [low, high]]): OpCase => ({
      op,
      name: `${op} [3, 67]`,
      inputs: (r) => ({ x: kinked.has(op) ? r.lattice([3, 67], low, high, 0.5) : r.uniform([3, 67], low, high) }),
      run: ({ x }) => ({ y: run(x!) }),
      oracle: ({ x }) => ({ y: (x as Float64Array).map(f) }),
    }),
  ),
  ...binary.flatMap(([op, run, f]) =>
    broadcasts.map(([a, b]): OpCase => {
      const shape = t.broadcastShapes(op, a, b);
      return {
        op,
        name: `${op} [${a}] [${b}]`,
        inputs: (r) =>
          kinked.has(op)
            ? { a: r.lattice(a, 0, 2, 0.25), b: r.lattice(b, 0, 2, 0.75) }
            : { a: r.uniform(a, 0.5, 2), b: r.uniform(b, 0.5, 2) },
        run: (x) => ({ y: run(x["a"]!, x["b"]!) }),
        oracle: (x) => ({ y: build(shape, (i) => f(x["a"]![at(a, i)]!, x["b"]![at(b, i)]!)) }),
      };
    }),
  ),
  ...(["add", "sub", "mul", "max", "min"] as const).map((op): OpCase => {
    const [, run, f] = binary.find(([name]) => name === op)!;
    return {
      op,
      name: `${op} int32`,
      noGradient: true,
      dtypes: ["float32"],
      inputs: (r) => ({ a: r.integers([4, 5], -9, 9), b: r.integers([5], -9, 9) }),
      run: ({ a, b }) => ({ y: run(a!, b!) }),
      oracle: ({ a, b }) => ({ y: build([4, 5], (i) => f(a![at([4, 5], i)]!, b![i[1]!]!)) }),
    };
  }),
  ...compares.map(
    ([op, f]): OpCase => ({
      op,
      name: `compare ${op}, equal elements among them`,
      noGradient: true,
      inputs: (r) => ({ a: r.integers([4, 6], -2, 3), b: r.integers([6], -2, 3) }),
      run: ({ a, b }) => ({ y: t.compare(op, t.cast(a!, "float32"), t.cast(b!, "float32")) }),
      oracle: ({ a, b }) => ({ y: build([4, 6], (i) => (f(a![at([4, 6], i)]!, b![i[1]!]!) ? 1 : 0)) }),
    }),
  ),
  {
    op: "where",
    name: "where broadcast",
    inputs: (r) => ({ c: r.integers([3, 1], 0, 2), a: r.normal([3, 5]), b: r.normal([5]) }),
    run: ({ c, a, b }) => ({ y: t.where(c!, a!, b!) }),
    oracle: ({ c, a, b }) => ({ y: build([3, 5], ([i, j]) => (c![i!]! !== 0 ? a![i! * 5 + j!]! : b![j!]!)) }),
  },
  {
    op: "where",
    name: "where hides NaN, in its gradient too",
    inputs: (r) => ({
      c: { shape: [4], data: Int32Array.of(1, 0, 1, 0) },
      a: r.normal([4]),
      nan: { shape: [4], data: new Float64Array(4).fill(Number.NaN), grad: false },
    }),
    run: ({ c, a, nan }) => ({ y: t.where(c!, a!, nan!), z: t.where(c!, t.mul(a!, 2), 0) }),
    oracle: ({ c, a }) => ({
      y: build([4], ([i]) => (c![i!]! !== 0 ? a![i!]! : Number.NaN)),
      z: build([4], ([i]) => (c![i!]! !== 0 ? 2 * a![i!]! : 0)),
    }),
    noGradient: true,
  },
  {
    op: "cast",
    name: "cast to int32 truncates",
    noGradient: true,
    inputs: (r) => ({ x: r.uniform([33], -9, 9) }),
    run: ({ x }) => ({ y: t.cast(x!, "int32"), back: t.cast(t.cast(x!, "int32"), "float32") }),
    oracle: ({ x }) => ({ y: (x as Float64Array).map(Math.trunc), back: (x as Float64Array).map(Math.trunc) }),
  },
];
