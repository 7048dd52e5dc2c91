import type { Buf, DType, MatmulOptions, Operand, Primitives, Shape } from "@mamba-ts/backend";
import { binaryFunctions, compareFunctions, unaryFunctions } from "./elementwise.js";
import type { PagedMemory } from "./paged.js";
import { around, broadcast, positions, sizeOf } from "./shapes.js";

/** The fifteen primitives, each as its definition. Operands are dense and fill their buffers: offset and stride can be ignored. */
export function primitives(memory: PagedMemory): Primitives {
  /** A new buffer of `shape` from a function of the element's number. */
  const make = (shape: Shape, dtype: DType, f: (i: number) => number): Buf => {
    const out = memory.alloc(sizeOf(shape), dtype);
    for (let i = 0; i < out.count; i++) out.set(i, f(i));
    return out;
  };
  /** Reads an operand, broadcast to `shape`. */
  const reader = (x: Operand, shape: Shape = x.shape): ((i: number) => number) => {
    const buf = memory.own(x.buf);
    const at = positions(shape, x.shape);
    return (i) => buf.get(at(i));
  };
  const element = (x: Operand): ((i: number) => number) => {
    const buf = memory.own(x.buf);
    return (i) => buf.get(i);
  };
  const without = (shape: Shape, axis: number): number[] => shape.filter((_, d) => d !== axis);

  return {
    fill: (shape, value, dtype) => make(shape, dtype, () => value),
    copy: ({ buf, offset, shape, strides, dtype }) => {
      const source = memory.own(buf);
      return make(shape, dtype, (i) => {
        let at = offset;
        for (let d = shape.length - 1; d >= 0; d--) {
          at += (i % shape[d]!) * strides[d]!;
          i = Math.floor(i / shape[d]!);
        }
        return source.get(at);
      });
    },
    cast: (x, to) => make(x.shape, to, to === "int32" ? (i) => Math.trunc(element(x)(i)) : element(x)),
    unary: (op, x) => make(x.shape, x.dtype, (i) => unaryFunctions[op](element(x)(i))),
    binary: (op, a, b) => {
      const shape = broadcast(a.shape, b.shape);
      const [p, q] = [reader(a, shape), reader(b, shape)];
      return make(shape, a.dtype, (i) => binaryFunctions[op](p(i), q(i)));
    },
    compare: (op, a, b) => {
      const shape = broadcast(a.shape, b.shape);
      const [p, q] = [reader(a, shape), reader(b, shape)];
      return make(shape, "int32", (i) => (compareFunctions[op](p(i), q(i)) ? 1 : 0));
    },
    where: (cond, a, b) => {
      const shape = broadcast(cond.shape, broadcast(a.shape, b.shape));
      const [c, p, q] = [reader(cond, shape), reader(a, shape), reader(b, shape)];
      return make(shape, a.dtype, (i) => (c(i) !== 0 ? p(i) : q(i)));
    },
    reduce: (op, x, axis) => {
      const { n, inner } = around(x.shape, axis);
      const at = element(x);
      return make(without(x.shape, axis), x.dtype, (i) => {
        const start = Math.floor(i / inner) * n * inner + (i % inner);
        let total = op === "sum" ? 0 : Number.NEGATIVE_INFINITY;
        for (let k = 0; k < n; k++)
          total = op === "sum" ? total + at(start + k * inner) : Math.max(total, at(start + k * inner));
        return total;
      });
    },
    argReduce: (op, x, axis) => {
      const { n, inner } = around(x.shape, axis);
      const at = element(x);
      return make(without(x.shape, axis), "int32", (i) => {
        const start = Math.floor(i / inner) * n * inner + (i % inner);
        let best = 0;
        for (let k = 1; k < n && !Number.isNaN(at(start + best * inner)); k++) {
          const [value, champion] = [at(start + k * inner), at(start + best * inner)];
          if (Number.isNaN(value) || (op === "max" ? value > champion : value < champion)) best = k;
        }
        return best;
      });
    },
    matmul: (a, b, options) => matmul(make, element, a, b, options),
    gather: (x, indices, axis) => {
      const { n, inner } = around(x.shape, axis);
      const [at, index] = [element(x), element(indices)];
      const count = sizeOf(indices.shape);
      return make([...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)], x.dtype, (i) => {
        const k = index(Math.floor(i / inner) % count);
        return k < 0 || k >= n ? 0 : at((Math.floor(i / inner / count) * n + k) * inner + (i % inner));
      });
    },
    scatterAdd: (shape, indices, updates, axis) => {
      const { n, inner } = around(shape, axis);
      const out = memory.own(make(shape, updates.dtype, () => 0));
      const [at, index] = [element(updates), element(indices)];
      const count = sizeOf(indices.shape);
      for (let i = 0; i < sizeOf(updates.shape); i++) {
        const k = index(Math.floor(i / inner) % count);
        if (k < 0 || k >= n) continue;
        const to = (Math.floor(i / inner / count) * n + k) * inner + (i % inner);
        out.set(to, out.get(to) + at(i));
      }
      return out;
    },
    pad: (x, axis, before, after) => {
      const { n, inner } = around(x.shape, axis);
      const length = n + before + after;
      const at = element(x);
      return make(
        x.shape.map((m, d) => (d === axis ? length : m)),
        x.dtype,
        (i) => {
          const k = (Math.floor(i / inner) % length) - before;
          return k < 0 || k >= n ? 0 : at((Math.floor(i / inner / length) * n + k) * inner + (i % inner));
        },
      );
    },
    concat: (xs, axis) => {
      const { inner } = around(xs[0]!.shape, axis);
      const total = xs.reduce((n, x) => n + x.shape[axis]!, 0);
      const parts = xs.map((x) => ({ n: x.shape[axis]!, at: element(x) }));
      return make(
        xs[0]!.shape.map((m, d) => (d === axis ? total : m)),
        xs[0]!.dtype,
        (i) => {
          const outer = Math.floor(i / inner / total);
          let k = Math.floor(i / inner) % total;
          for (const { n, at } of parts) {
            if (k < n) return at((outer * n + k) * inner + (i % inner));
            k -= n;
          }
          return 0;
        },
      );
    },
    linearScan: (a, b, axis, reverse) => {
      const { outer, n, inner } = around(a.shape, axis);
      const h = memory.alloc(sizeOf(a.shape), a.dtype);
      const [p, q] = [element(a), element(b)];
      for (let o = 0; o < outer; o++)
        for (let i = 0; i < inner; i++) {
          let state = 0;
          for (let k = 0; k < n; k++) {
            const at = (o * n + (reverse ? n - 1 - k : k)) * inner + i;
            state = k === 0 ? q(at) : p(at) * state + q(at);
            h.set(at, state);
          }
        }
      return h;
    },
  };
}

function matmul(
  make: (shape: Shape, dtype: DType, f: (i: number) => number) => Buf,
  element: (x: Operand) => (i: number) => number,
  a: Operand,
  b: Operand,
  { transA, transB, out }: MatmulOptions,
): Buf {
  const [aRows, aColumns] = a.shape.slice(-2) as [number, number];
  const [bRows, bColumns] = b.shape.slice(-2) as [number, number];
  const [m, k] = transA ? [aColumns, aRows] : [aRows, aColumns];
  const n = transB ? bRows : bColumns;
  const lead = broadcast(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const [aAt, bAt] = [positions(lead, a.shape.slice(0, -2)), positions(lead, b.shape.slice(0, -2))];
  const [x, y] = [element(a), element(b)];
  return make([...lead, m, n], out, (i) => {
    const [row, column, batch] = [Math.floor(i / n) % m, i % n, Math.floor(i / n / m)];
    const [p, q] = [aAt(batch) * m * k, bAt(batch) * k * n];
    let sum = 0;
    for (let j = 0; j < k; j++)
      sum += x(p + (transA ? j * m + row : row * k + j)) * y(q + (transB ? column * k + j : j * n + column));
    return sum;
  });
}
