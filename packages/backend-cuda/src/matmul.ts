import { BackendError, type Buf, type FloatDType, type MatmulOptions, type Operand } from "@mamba-ts/backend";
import type { CudaDevice } from "./device.js";
import { fill } from "./elementwise.js";
import { i64 } from "./launch.js";
import type { CudaBuf } from "./memory.js";
import { broadcastShape, broadcastStrides, sizeOf } from "./shapes.js";

/** cudaDataType_t */
const types: { readonly [K in FloatDType]: number } = { float32: 0, float64: 1, f16: 2, bf16: 14 };

/** A matrix in memory, rows `rowStride` elements apart; `transposed` says that it is stored so. */
export interface Matrix {
  readonly buf: CudaBuf;
  readonly offset: number;
  readonly rowStride: number;
  readonly transposed: boolean;
  /** Elements between one matrix of the batch and the next. */
  readonly batchStride: number;
}

export interface ProductSize {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly batch: number;
}

/** y = a b, or y += a b; y dense, from element `yOffset` on. By cuBLASLt where it is there, else by a kernel of ours. */
export function product(
  device: CudaDevice,
  a: Matrix,
  b: Matrix,
  y: CudaBuf,
  { m, n, k, batch }: ProductSize,
  { yOffset = 0, accumulate = false, yStride = n }: { yOffset?: number; accumulate?: boolean; yStride?: number } = {},
): void {
  if (m === 0 || n === 0 || batch === 0) return;
  const dtype = a.buf.dtype as FloatDType;
  const out = y.dtype as FloatDType;
  const at = (x: Matrix): number => x.buf.pointer + x.offset * x.buf.bytesEach;
  const yPointer = y.pointer + yOffset * y.bytesEach;
  if (device.hasCublas) {
    const [workspace, bytes] = device.workspace;
    // Column-major: the transposed product, b first.
    try {
      device.native.matmul(
        ...([at(b), at(a), yPointer, workspace, bytes, n, m, k, batch, types[dtype], types[out]] as const),
        ...([b.transposed, a.transposed, b.rowStride, a.rowStride, yStride] as const),
        ...([b.batchStride, a.batchStride, m * n, accumulate] as const),
      );
      device.memory.launched([y]);
      device.onLaunch?.(`matmul ${dtype} ${m}x${n}x${k}`);
      return;
    } catch (cause) {
      // A layout that cuBLASLt has nothing for is ours to do.
      if (!/GetHeuristic/.test((cause as Error).message) || accumulate || yStride !== n)
        throw new BackendError(`cuda: matmul ${m} x ${n} x ${k} of ${dtype}: ${(cause as Error).message}`, { cause });
    }
  }
  if (accumulate || yStride !== n) throw new BackendError("cuda: this product needs cuBLASLt");
  const [aRow, aColumn] = a.transposed ? [1, a.rowStride] : [a.rowStride, 1];
  const [bRow, bColumn] = b.transposed ? [1, b.rowStride] : [b.rowStride, 1];
  device.launch(
    "matmul",
    `matmul_${dtype}_${out}`,
    [Math.ceil(n / 64), Math.ceil(m / 64), batch],
    [256],
    [
      { pointer: at(a) },
      { pointer: at(b) },
      { pointer: yPointer, of: y },
      ...[m, n, k, aRow, aColumn, bRow, bColumn, a.batchStride, b.batchStride].map(i64),
    ],
  );
}

export function matmul(device: CudaDevice, a: Operand, b: Operand, { transA, transB, out }: MatmulOptions): Buf {
  const [rows, columns] = a.shape.slice(-2) as [number, number];
  const [m, k] = transA ? [columns, rows] : [rows, columns];
  const n = b.shape.at(transB ? -2 : -1)!;
  const lead = broadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const count = sizeOf(lead);
  if (k === 0 || m * n * count === 0) return fill(device, [...lead, m, n], 0, out);
  const y = device.alloc(count * m * n, out);
  const matrix = (x: Operand, transposed: boolean, offset: number, batchStride: number): Matrix => ({
    buf: device.own(x),
    offset,
    rowStride: x.shape.at(-1)!,
    transposed,
    batchStride,
  });
  const aLead = sizeOf(a.shape.slice(0, -2));
  const bLead = sizeOf(b.shape.slice(0, -2));
  const [aSize, bSize] = [m * k, k * n];
  if (bLead === 1 && !transA && aLead === count) {
    // One matrix for all: a taller product.
    product(device, matrix(a, false, 0, 0), matrix(b, transB, 0, 0), y, { m: count * m, n, k, batch: 1 });
  } else if ((aLead === count || aLead === 1) && (bLead === count || bLead === 1)) {
    const [aStep, bStep] = [aLead === 1 ? 0 : aSize, bLead === 1 ? 0 : bSize];
    product(device, matrix(a, transA, 0, aStep), matrix(b, transB, 0, bStep), y, { m, n, k, batch: count });
  } else {
    const aSteps = broadcastStrides(a.shape.slice(0, -2), lead.length);
    const bSteps = broadcastStrides(b.shape.slice(0, -2), lead.length);
    for (let i = 0; i < count; i++) {
      let [rest, from, other] = [i, 0, 0];
      for (let d = lead.length - 1; d >= 0; d--) {
        from += (rest % lead[d]!) * aSteps[d]!;
        other += (rest % lead[d]!) * bSteps[d]!;
        rest = Math.floor(rest / lead[d]!);
      }
      const [left, right] = [matrix(a, transA, from * aSize, 0), matrix(b, transB, other * bSize, 0)];
      product(device, left, right, y, { m, n, k, batch: 1 }, { yOffset: i * m * n });
    }
  }
  return y;
}
