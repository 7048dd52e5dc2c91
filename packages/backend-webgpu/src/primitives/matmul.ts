/** Matrix products: which tiles, and how far along k a workgroup goes, by the shape. */
import { type Buf, DTypeError, type MatmulOptions, type Operand, type Shape } from "@mamba-ts/backend";
import type { Located } from "../gpu/gpu.js";
import { broadcastShape, broadcastStrides, sizeOf } from "../shapes.js";
import type { WebGpuMemory } from "../storage.js";
import { reduceMiddle } from "./axis.js";
import { cast, isHalf } from "./cast.js";
import { place } from "./place.js";
import { copy } from "./shape.js";

/** A matrix, or a batch of them, in float32 memory, or f16 where its product says so. */
export interface Matrix {
  readonly buf: Located;
  readonly start?: number;
  readonly row: number;
  readonly col: number;
  /** 0 where all of the batch share one. */
  readonly batch?: number;
}

export interface Product {
  readonly a: Matrix;
  readonly b: Matrix;
  readonly y: { readonly buf: Located; readonly start?: number; readonly row: number; readonly batch?: number };
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly batch?: number;
  readonly bias?: Located | undefined;
  /** Adds to what y holds. */
  readonly accumulates?: boolean;
  /** a and b are f16; y and all sums are float32. Only where the device has shader-f16. */
  readonly f16?: boolean;
}

interface Tiles {
  readonly kernel: "matmul/quads" | "matmul/octets";
  readonly BM: number;
  readonly BN: number;
  readonly BK: number;
}
const large: Tiles = { kernel: "matmul/octets", BM: 128, BN: 128, BK: 8 };
const medium: Tiles = { kernel: "matmul/quads", BM: 64, BN: 64, BK: 16 };
const small: Tiles = { kernel: "matmul/quads", BM: 32, BN: 32, BK: 16 };
/** Rows and columns of a tile of matmul/matrices, which makes whole ones only. */
const MATRICES = 128;
/** What it takes of k at a time. */
const DEPTH = 16;
/** Workgroups that keep a large device busy. */
const PLENTY = 256;
const MAX_GROUPS = 65_535;
/** The least of k that a workgroup walks, where it is cut up. */
const LEAST_DEPTH = 256;

/** Into how many stretches k may be cut for the tiles to fill a device. */
function splitsFor(groups: number, k: number): number {
  return Math.max(1, Math.min(Math.floor(PLENTY / groups), Math.floor(k / LEAST_DEPTH), 64));
}

function tilesFor(m: number, n: number, k: number, batch: number, maySplit: boolean): Tiles {
  const busy = ({ BM, BN }: Tiles): number => {
    const groups = Math.ceil(m / BM) * Math.ceil(n / BN) * batch;
    return maySplit ? groups * splitsFor(groups, k) : groups;
  };
  if (m > 64 && n > 64 && busy(large) >= (PLENTY * 5) / 8) return large;
  return Math.min(m, n) > 32 && busy(medium) >= PLENTY / 4 ? medium : small;
}

/** y = a b (+ bias) (+ y), summed in float32. */
export function multiply(memory: WebGpuMemory, product: Product): void {
  const { y, m, n, k, batch = 1, bias, accumulates = false } = product;
  if (m === 0 || n === 0 || batch === 0) return;
  const isPlain = batch === 1 && !accumulates && bias === undefined && y.row === n;
  const tiles = tilesFor(m, n, k, batch, isPlain);
  const groups = Math.ceil(m / tiles.BM) * Math.ceil(n / tiles.BN) * batch;
  // A long k with few tiles is cut up, and the partial products added.
  const splits = isPlain ? splitsFor(groups, k) : 1;
  if (splits > 1) {
    const partial = memory.alloc(splits * m * n, "float32");
    launch(memory, { ...product, y: { buf: partial, row: n, batch: m * n } }, tiles, splits, 0, 1);
    addPartials(memory, partial, y.buf, y.start ?? 0, splits, m * n);
    memory.free(partial);
    return;
  }
  for (let first = 0; first < batch; first += MAX_GROUPS)
    launch(memory, product, tiles, 1, first, Math.min(MAX_GROUPS, batch - first));
}

function addPartials(
  memory: WebGpuMemory,
  partial: Located,
  y: Located,
  start: number,
  splits: number,
  count: number,
): void {
  const sum = reduceMiddle(memory, "sum", partial, "float32", 1, splits, count);
  place(memory, memory.own(sum), y, { rows: 1, run: count, x_pitch: 0, y_start: start, y_pitch: 0 });
  memory.free(sum);
}

/** How tiles of an operand are read, see kernels/common/matmul.wgsl: `across` is the step along m (or n), `along` the one along k. */
function modeOf(
  { start = 0, batch = 0 }: Matrix,
  { across, along }: { readonly across: number; readonly along: number },
  width: number,
  k: number,
): number {
  const isAligned = (...steps: number[]): boolean => steps.every((step) => step % 4 === 0);
  if (across === 1 && isAligned(start, batch, along, width)) return 1;
  return along === 1 && isAligned(start, batch, across, k) ? 2 : 0;
}

function launch(
  memory: WebGpuMemory,
  { a, b, y, m, n, k, bias, accumulates = false, f16 = false }: Product,
  { kernel, ...tiles }: Tiles,
  splits: number,
  first: number,
  batch: number,
): void {
  const [aBatch, bBatch, yBatch] = [a.batch ?? 0, b.batch ?? 0, y.batch ?? 0];
  const operands = { a: a.buf, b: b.buf, bias, y: y.buf };
  const A_MODE = modeOf(a, { across: a.row, along: a.col }, m, k);
  const B_MODE = modeOf(b, { across: b.col, along: b.row }, n, k);
  const params = {
    m,
    n,
    k,
    k_stretch: Math.ceil(k / splits / tiles.BK) * tiles.BK,
    splits,
    a_start: (a.start ?? 0) + first * aBatch,
    a_row: a.row,
    a_col: a.col,
    a_batch: aBatch,
    b_start: (b.start ?? 0) + first * bBatch,
    b_row: b.row,
    b_col: b.col,
    b_batch: bBatch,
    y_start: (y.start ?? 0) + first * yBatch,
    y_row: y.row,
    y_batch: yBatch,
  };
  const isDeep = k % DEPTH === 0 && params.k_stretch % DEPTH === 0;
  const isWhole = A_MODE !== 0 && B_MODE !== 0 && m % MATRICES === 0 && n % MATRICES === 0 && isDeep;
  if (f16 && isWhole && bias === undefined && !accumulates && memory.gpu.hasMatrices) {
    const grid = [m / MATRICES, n / MATRICES, batch * splits] as const;
    memory.gpu.run("matmul/matrices", operands, params, { constants: { A_MODE, B_MODE }, grid });
    return;
  }
  memory.gpu.run(kernel, operands, params, {
    constants: {
      ...tiles,
      A_MODE,
      B_MODE,
      HAS_BIAS: Number(bias !== undefined),
      ACCUMULATES: Number(accumulates),
    },
    f16,
    grid: [Math.ceil(m / tiles.BM), Math.ceil(n / tiles.BN), batch * splits],
  });
}

export function matmul(memory: WebGpuMemory, a: Operand, b: Operand, { transA, transB, out }: MatmulOptions): Buf {
  for (const { dtype } of [a, b])
    if (dtype !== "float32" && !isHalf(dtype)) throw new DTypeError(`matmul: not defined on ${dtype}`);
  const temporaries: Buf[] = [];
  const f16 = memory.gpu.hasF16 && a.dtype === "f16" && b.dtype === "f16";
  const wide = (x: Operand): Operand => {
    if (x.dtype === "float32" || f16) return x;
    const buf = cast(memory, x, "float32");
    temporaries.push(buf);
    return { ...x, buf, dtype: "float32" };
  };
  const [aLead, bLead] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const lead = broadcastShape(aLead, bLead);
  const batch = sizeOf(lead);
  const [aRows, aColumns] = [a.shape.at(-2)!, a.shape.at(-1)!];
  const [bRows, bColumns] = [b.shape.at(-2)!, b.shape.at(-1)!];
  const [m, k] = transA ? [aColumns, aRows] : [aRows, aColumns];
  const n = transB ? bRows : bColumns;
  /** Every matrix of the batch in place, or one for all. */
  const spreadOver = (x: Operand, own: Shape): { buf: Located; batch: number } => {
    const source = wide(x);
    const size = x.shape.at(-2)! * x.shape.at(-1)!;
    if (sizeOf(own) === 1) return { buf: memory.own(source.buf), batch: 0 };
    if (sizeOf(own) === batch) return { buf: memory.own(source.buf), batch: size };
    const shape = [...lead, x.shape.at(-2)!, x.shape.at(-1)!];
    const strides = broadcastStrides(x.shape, shape);
    const buf = copy(memory, { buf: source.buf, offset: 0, shape, strides, dtype: source.dtype });
    temporaries.push(buf);
    return { buf: memory.own(buf), batch: size };
  };
  const [left, right] = [spreadOver(a, aLead), spreadOver(b, bLead)];
  const y = memory.alloc(batch * m * n, "float32");
  // Rows of a whole batch against one matrix are rows of one product.
  const isFlat = right.batch === 0 && left.batch !== 0 && !transA;
  multiply(memory, {
    a: { ...left, row: transA ? 1 : k, col: transA ? m : 1 },
    b: { ...right, row: transB ? 1 : n, col: transB ? k : 1 },
    y: { buf: y, row: n, batch: m * n },
    m: isFlat ? batch * m : m,
    n,
    k,
    batch: isFlat ? 1 : batch,
    f16,
  });
  for (const buf of temporaries) memory.free(buf);
  if (out === "float32") return y;
  const result = cast(memory, { buf: y, offset: 0, rowStride: n, shape: [y.count], dtype: "float32" }, out);
  memory.free(y);
  return result;
}
