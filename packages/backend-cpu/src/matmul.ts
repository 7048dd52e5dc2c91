import type { Buf, MatmulOptions, Operand } from "@mamba-ts/backend";
import { gemm } from "./gemm.js";
import type { CpuMemory } from "./storage.js";
import { broadcastShape, indexerOf, sizeOf } from "./strides.js";
import { floatOutput, floats } from "./values.js";

/** Matrix product over the last two axes, sums in doubles; see `Primitives.matmul`. */
export function matmul(memory: CpuMemory, a: Operand, b: Operand, { transA, transB, out: dtype }: MatmulOptions): Buf {
  const [aRows, aColumns] = [a.shape.at(-2)!, a.shape.at(-1)!];
  const [bRows, bColumns] = [b.shape.at(-2)!, b.shape.at(-1)!];
  const [m, k] = transA ? [aColumns, aRows] : [aRows, aColumns];
  const n = transB ? bRows : bColumns;
  const lead = broadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const batches = sizeOf(lead);
  const [x, z] = [floats(memory, a), floats(memory, b)];
  const out = floatOutput(memory, batches * m * n, dtype);
  const y = out.values;
  // A matrix of the batch counts as one "row" of the leading axes.
  const aStart = indexerOf([...a.shape.slice(0, -2), aRows * aColumns], lead);
  const bStart = indexerOf([...b.shape.slice(0, -2), bRows * bColumns], lead);
  for (let i = 0; i < batches; i++)
    gemm(
      { data: x, offset: aStart(i), rowStride: transA ? 1 : aColumns, columnStride: transA ? aColumns : 1 },
      { data: z, offset: bStart(i), rowStride: transB ? 1 : bColumns, columnStride: transB ? bColumns : 1 },
      y,
      i * m * n,
      n,
      m,
      n,
      k,
    );
  return out.finish();
}
