import { type Buf, DTypeError, type MatmulOptions, type Operand } from "@mamba-ts/backend";
import { broadcastShape, broadcastSteps, sizeOf, stridesOf } from "../runtime/axes.js";
import { operation } from "../runtime/call.js";
import type { WasmMemory } from "../runtime/memory.js";

/** See `Primitives.matmul`. Sums are float32. */
export function matmul(memory: WasmMemory, a: Operand, b: Operand, { transA, transB, out }: MatmulOptions): Buf {
  if (a.dtype === "int32" || b.dtype === "int32")
    throw new DTypeError("wasm: matmul of int32", { hint: "cast to float32 first" });
  const [aRows, aColumns] = [a.shape.at(-2)!, a.shape.at(-1)!];
  const [bRows, bColumns] = [b.shape.at(-2)!, b.shape.at(-1)!];
  const [m, k] = transA ? [aColumns, aRows] : [aRows, aColumns];
  const n = transB ? bRows : bColumns;
  const lead = broadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const aMatrix = { row: transA ? 1 : aColumns, column: transA ? aColumns : 1 };
  const bMatrix = { row: transB ? 1 : bColumns, column: transB ? bColumns : 1 };
  return operation(memory, (call) => {
    const [x, z] = [call.numbers(a), call.numbers(b)];
    const y = call.result(sizeOf(lead) * m * n, out);
    const [aStart, bStart] = [starts(a, lead), starts(b, lead)];
    for (let i = 0; i < sizeOf(lead); i++) {
      const left = x + 4 * aStart(i);
      const right = z + 4 * bStart(i);
      const to = y.at + 4 * i * m * n;
      // One column: a row times the transposed matrix, whose rows are then streamed and not packed.
      if (n === 1 && m > 1)
        call.kernels.gemm(right, 1, bMatrix.row, left, aMatrix.column, aMatrix.row, 0, to, m, 1, m, k, 0, 0);
      else
        call.kernels.gemm(
          ...([left, aMatrix.row, aMatrix.column, right, bMatrix.row, bMatrix.column, 0] as const),
          ...([to, n, m, n, k, 0, 0] as const),
        );
    }
    return y.finish();
  });
}

/** Where the i-th matrix of the broadcast leading axes begins in an operand. */
function starts({ shape }: Operand, lead: readonly number[]): (i: number) => number {
  const own = shape.slice(0, -2);
  const size = shape.at(-2)! * shape.at(-1)!;
  const steps = broadcastSteps(own, lead.length);
  const strides = stridesOf(lead);
  return (i) => size * lead.reduce((start, n, d) => start + (Math.floor(i / strides[d]!) % n) * steps[d]!, 0);
}
