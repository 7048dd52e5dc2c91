import { type Buf, DTypeError, type MatmulOptions, type Operand } from "@mamba-ts/backend";
import { broadcastIndex, broadcastShape, sizeOf } from "./shape.js";
import type { PagedMemory } from "./storage.js";

/**
 * y[i, j] = sum_k a[i, k] b[k, j] for every pair of matrices that the leading axes broadcast to.
 * A backend with bf16 or f16 must still accumulate in float32; doubles, as here, are no duty.
 *
 * Your backend: the first kernel to make fast. Nearly all the time of a composed Mamba is spent here.
 */
export function matmul(memory: PagedMemory, a: Operand, b: Operand, { transA, transB, out }: MatmulOptions): Buf {
  for (const { dtype } of [a, b]) if (dtype !== "float32") throw new DTypeError(`matmul: not defined on ${dtype}`);
  const [p, q] = [memory.own(a.buf), memory.own(b.buf)];
  const [aRows, aColumns] = [a.shape.at(-2)!, a.shape.at(-1)!];
  const [bRows, bColumns] = [b.shape.at(-2)!, b.shape.at(-1)!];
  const [m, k] = transA ? [aColumns, aRows] : [aRows, aColumns];
  const n = transB ? bRows : bColumns;
  const [aLead, bLead] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const lead = broadcastShape(aLead, bLead);
  const [aMatrix, bMatrix] = [broadcastIndex(aLead, lead), broadcastIndex(bLead, lead)];

  const y = memory.alloc(sizeOf(lead) * m * n, out);
  let to = 0;
  for (let batch = 0; batch < sizeOf(lead); batch++) {
    const [aStart, bStart] = [aMatrix(batch) * aRows * aColumns, bMatrix(batch) * bRows * bColumns];
    for (let i = 0; i < m; i++)
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let l = 0; l < k; l++)
          sum +=
            p.get(aStart + (transA ? l * aColumns + i : i * aColumns + l)) *
            q.get(bStart + (transB ? j * bColumns + l : l * bColumns + j));
        y.set(to++, sum);
      }
  }
  return y;
}
