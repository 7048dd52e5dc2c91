import type { Shape } from "@mamba-ts/backend";
import * as t from "@mamba-ts/tensor";
import { at, build, indices, type OpCase } from "../case.js";

function reduceCase(op: "sum" | "max", shape: Shape, axis: number): OpCase {
  const outShape = shape.filter((_, d) => d !== axis);
  return {
    op,
    name: `${op} [${shape}] axis ${axis}`,
    inputs: (r) => ({ x: r.normal(shape) }),
    run: ({ x }) => ({ y: (op === "sum" ? t.sum : t.max)(x!, axis) }),
    oracle: ({ x }) => {
      const y = new Float64Array(t.sizeOf(outShape)).fill(op === "sum" ? 0 : Number.NEGATIVE_INFINITY);
      for (const index of indices(shape)) {
        const to = at(
          outShape,
          index.filter((_, d) => d !== axis),
        );
        y[to] = op === "sum" ? y[to]! + x![at(shape, index)]! : Math.max(y[to]!, x![at(shape, index)]!);
      }
      return { y };
    },
  };
}

function argCase(op: "max" | "min", axis: number): OpCase {
  const shape = [3, 5, 4];
  const outShape = shape.filter((_, d) => d !== axis);
  return {
    op: "argReduce",
    name: `arg${op} axis ${axis}, the first among equals`,
    noGradient: true,
    inputs: (r) => ({ x: r.integers(shape, 0, 3) }),
    run: ({ x }) => ({ y: (op === "max" ? t.argMax : t.argMin)(t.cast(x!, "float32"), axis) }),
    oracle: ({ x }) => ({
      y: build(outShape, (index) => {
        const full = (k: number): number => at(shape, [...index.slice(0, axis), k, ...index.slice(axis)]);
        let best = 0;
        for (let k = 1; k < shape[axis]!; k++)
          if (op === "max" ? x![full(k)]! > x![full(best)]! : x![full(k)]! < x![full(best)]!) best = k;
        return best;
      }),
    }),
  };
}

function gatherCase(axis: number): OpCase {
  const shape = [3, 5, 4];
  const ids = Int32Array.of(4, -1, 0, 0, 7, 2);
  const outShape = [...shape.slice(0, axis), 2, 3, ...shape.slice(axis + 1)];
  const source = (index: readonly number[]): number[] | undefined => {
    const k = ids[index[axis]! * 3 + index[axis + 1]!]!;
    return k < 0 || k >= shape[axis]! ? undefined : [...index.slice(0, axis), k, ...index.slice(axis + 2)];
  };
  return {
    op: "gather",
    name: `gather axis ${axis}, indices outside give zeros`,
    inputs: (r) => ({ x: r.normal(shape), ids: { shape: [2, 3], data: ids } }),
    run: ({ x, ids: k }) => ({ y: t.gather(x!, k!, axis) }),
    oracle: ({ x }) => ({
      y: build(outShape, (index) => {
        const from = source(index);
        return from === undefined ? 0 : x![at(shape, from)]!;
      }),
    }),
  };
}

function scatterCase(axis: number): OpCase {
  const shape = [3, 5, 4];
  const ids = Int32Array.of(4, -1, 0, 0, 7, 2);
  const inShape = [...shape.slice(0, axis), 6, ...shape.slice(axis + 1)];
  return {
    op: "scatterAdd",
    name: `scatterAdd axis ${axis}, repeated and outside indices`,
    inputs: (r) => ({ x: r.normal(inShape), ids: { shape: [6], data: ids } }),
    run: ({ x, ids: k }) => ({ y: t.scatterAdd(shape, k!, x!, axis) }),
    oracle: ({ x }) => {
      const y = new Float64Array(60);
      for (const index of indices(inShape)) {
        const k = ids[index[axis]!]!;
        if (k >= 0 && k < shape[axis]!)
          y[
            at(
              shape,
              index.map((n, d) => (d === axis ? k : n)),
            )
          ]! += x![at(inShape, index)]!;
      }
      return { y };
    },
  };
}

function padCase(before: number, after: number): OpCase {
  const n = 5 + before + after;
  return {
    op: "pad",
    name: `pad ${before} ${after}`,
    inputs: (r) => ({ x: r.normal([2, 5, 3]) }),
    run: ({ x }) => ({ y: t.pad(x!, 1, before, after) }),
    oracle: ({ x }) => ({
      y: build([2, n, 3], ([i, j, k]) =>
        j! - before >= 0 && j! - before < 5 ? x![(i! * 5 + j! - before) * 3 + k!]! : 0,
      ),
    }),
  };
}

function scanCase(shape: Shape, axis: number, reverse: boolean): OpCase {
  return {
    op: "linearScan",
    name: `linearScan [${shape}] axis ${axis}${reverse ? " reverse" : ""}`,
    inputs: (r) => ({ a: r.uniform(shape, -1.1, 1.1), b: r.normal(shape) }),
    run: ({ a, b }) => ({ h: t.linearScan(a!, b!, axis, { reverse }) }),
    oracle: ({ a, b }) => {
      const h = new Float64Array(a!.length);
      const n = shape[axis]!;
      for (const index of indices(shape.map((m, d) => (d === axis ? Math.min(1, m) : m)))) {
        let state = 0;
        for (let k = 0; k < n; k++) {
          const p = at(
            shape,
            index.map((i, d) => (d === axis ? (reverse ? n - 1 - k : k) : i)),
          );
          state = a![p]! * state + b![p]!;
          h[p] = state;
        }
      }
      return { h };
    },
  };
}

/** Views reach backends through `copy` alone: each of these makes one of its strided cases. */
const views: readonly [string, Shape, (x: t.Tensor) => t.Tensor, (shape: Shape, index: number[]) => number[]][] = [
  ["permute", [4, 2, 3], (x) => t.permute(x, [2, 0, 1]), (_, [i, j, k]) => [j!, k!, i!]],
  ["flip", [2, 3, 4], (x) => t.flip(x, 1), (_, [i, j, k]) => [i!, 2 - j!, k!]],
  ["slice", [2, 2, 2], (x) => t.slice(t.slice(x, 2, 1, 3), 1, -2), (_, [i, j, k]) => [i!, j! + 1, k! + 1]],
];

export const shapeCases: readonly OpCase[] = [
  ...(["sum", "max"] as const).flatMap((op) => [
    reduceCase(op, [3, 5, 4], 0),
    reduceCase(op, [3, 5, 4], 1),
    reduceCase(op, [3, 5, 4], 2),
    reduceCase(op, [1, 129], 1),
    reduceCase(op, [300, 2], 0),
  ]),
  { ...reduceCase("sum", [3, 0, 2], 1), name: "sum over an empty axis is 0" },
  ...[0, 1, 2].flatMap((axis) => [argCase("max", axis), argCase("min", axis), gatherCase(axis), scatterCase(axis)]),
  padCase(2, 0),
  padCase(0, 3),
  padCase(-1, 2),
  padCase(-2, -1),
  scanCase([7], 0, false),
  scanCase([2, 9, 3], 1, false),
  scanCase([2, 9, 3], 1, true),
  scanCase([3, 1, 2], 1, true),
  scanCase([2, 0, 2], 1, false),
  scanCase([2, 130], 1, false),
  {
    op: "concat",
    name: "concat along the middle, an empty piece among them",
    inputs: (r) => ({ a: r.normal([2, 3, 4]), b: r.normal([2, 0, 4]), c: r.normal([2, 2, 4]) }),
    run: ({ a, b, c }) => ({ y: t.concat([a!, b!, c!], 1) }),
    oracle: ({ a, c }) => ({
      y: build([2, 5, 4], ([i, j, k]) => (j! < 3 ? a![(i! * 3 + j!) * 4 + k!]! : c![(i! * 2 + j! - 3) * 4 + k!]!)),
    }),
  },
  {
    op: "fill",
    name: "fill",
    noGradient: true,
    inputs: () => ({}),
    run: (_, backend) => ({ y: t.fill(backend, [3, 2], 2.5), z: t.fill(backend, [], -1, "int32") }),
    oracle: () => ({ y: new Float64Array(6).fill(2.5), z: Int32Array.of(-1) }),
  },
  ...views.map(
    ([name, shape, run, source]): OpCase => ({
      op: "copy",
      name: `copy of a view: ${name}`,
      inputs: (r) => ({ x: r.normal([2, 3, 4]) }),
      run: ({ x }) => ({ y: t.mul(run(x!), 1) }),
      oracle: ({ x }) => ({ y: build(shape, (index) => x![at([2, 3, 4], source(shape, index))]!) }),
    }),
  ),
  {
    op: "copy",
    name: "copy of a view: expand",
    inputs: (r) => ({ x: r.normal([3, 1]) }),
    run: ({ x }) => ({ y: t.reshape(t.expand(x!, [2, 3, 4]), [24]) }),
    oracle: ({ x }) => ({ y: build([2, 3, 4], ([, j]) => x![j!]!) }),
  },
];
