/**
 * y[m, n] (+)= a b, the loop nest of Goto and van de Geijn ("Anatomy of high-performance matrix multiplication", 2008): blocks of a and
 * panels of b are packed so that the inner kernel reads both in order; it keeps a 4 x 4 tile of sums in registers.
 * Packing to doubles costs one conversion per element instead of one per product.
 */
import type { Floats } from "./values.js";

const TILE = 4;
const ROWS = 128;
const DEPTH = 512;
const packedA = new Float64Array(ROWS * DEPTH);
const packedB = new Float64Array(TILE * DEPTH);
const tile = new Float64Array(TILE * TILE);

/** A matrix in memory: element (i, j) is data[offset + i * rowStride + j * columnStride]. */
export interface Matrix {
  readonly data: Floats;
  readonly offset: number;
  readonly rowStride: number;
  readonly columnStride: number;
}

/**
 * y[yOffset + i * yStride + j] = sum_p a[i, p] b[p, j] for i < m, j < n, p < k; added to what is there if `accumulate`.
 */
export function gemm(
  a: Matrix,
  b: Matrix,
  y: Floats,
  yOffset: number,
  yStride: number,
  m: number,
  n: number,
  k: number,
  accumulate = false,
): void {
  if (k === 0) {
    if (!accumulate) for (let i = 0; i < m; i++) y.fill(0, yOffset + i * yStride, yOffset + i * yStride + n);
    return;
  }
  if (m < TILE) {
    rowByRow(a, b, y, yOffset, yStride, m, n, k, accumulate);
    return;
  }
  for (let p0 = 0; p0 < k; p0 += DEPTH) {
    const depth = Math.min(DEPTH, k - p0);
    const add = accumulate || p0 > 0;
    for (let i0 = 0; i0 < m; i0 += ROWS) {
      const rows = Math.min(ROWS, m - i0);
      packRows(a, i0, rows, p0, depth);
      for (let j0 = 0; j0 < n; j0 += TILE) {
        const columns = Math.min(TILE, n - j0);
        packColumns(b, j0, columns, p0, depth);
        for (let i = 0; i < rows; i += TILE) {
          multiply(i * depth, depth);
          store(y, yOffset + (i0 + i) * yStride + j0, yStride, Math.min(TILE, rows - i), columns, add);
        }
      }
    }
  }
}

function packRows(a: Matrix, i0: number, rows: number, p0: number, depth: number): void {
  const { data, rowStride, columnStride } = a;
  for (let i = 0; i < rows; i += TILE)
    for (let r = 0; r < TILE; r++) {
      let to = i * depth + r;
      if (i + r >= rows) for (let p = 0; p < depth; p++, to += TILE) packedA[to] = 0;
      else {
        let from = a.offset + (i0 + i + r) * rowStride + p0 * columnStride;
        for (let p = 0; p < depth; p++, to += TILE, from += columnStride) packedA[to] = data[from]!;
      }
    }
}

function packColumns(b: Matrix, j0: number, columns: number, p0: number, depth: number): void {
  const { data, rowStride, columnStride } = b;
  for (let c = 0; c < TILE; c++) {
    let to = c;
    if (c >= columns) for (let p = 0; p < depth; p++, to += TILE) packedB[to] = 0;
    else {
      let from = b.offset + p0 * rowStride + (j0 + c) * columnStride;
      for (let p = 0; p < depth; p++, to += TILE, from += rowStride) packedB[to] = data[from]!;
    }
  }
}

function multiply(at: number, depth: number): void {
  let [c00, c01, c02, c03] = [0, 0, 0, 0];
  let [c10, c11, c12, c13] = [0, 0, 0, 0];
  let [c20, c21, c22, c23] = [0, 0, 0, 0];
  let [c30, c31, c32, c33] = [0, 0, 0, 0];
  for (let q = at, r = 0; r < depth * TILE; q += TILE, r += TILE) {
    const b0 = packedB[r]!;
    const b1 = packedB[r + 1]!;
    const b2 = packedB[r + 2]!;
    const b3 = packedB[r + 3]!;
    const a0 = packedA[q]!;
    c00 += a0 * b0;
    c01 += a0 * b1;
    c02 += a0 * b2;
    c03 += a0 * b3;
    const a1 = packedA[q + 1]!;
    c10 += a1 * b0;
    c11 += a1 * b1;
    c12 += a1 * b2;
    c13 += a1 * b3;
    const a2 = packedA[q + 2]!;
    c20 += a2 * b0;
    c21 += a2 * b1;
    c22 += a2 * b2;
    c23 += a2 * b3;
    const a3 = packedA[q + 3]!;
    c30 += a3 * b0;
    c31 += a3 * b1;
    c32 += a3 * b2;
    c33 += a3 * b3;
  }
  tile[0] = c00;
  tile[1] = c01;
  tile[2] = c02;
  tile[3] = c03;
  tile[4] = c10;
  tile[5] = c11;
  tile[6] = c12;
  tile[7] = c13;
  tile[8] = c20;
  tile[9] = c21;
  tile[10] = c22;
  tile[11] = c23;
  tile[12] = c30;
  tile[13] = c31;
  tile[14] = c32;
  tile[15] = c33;
}

function store(y: Floats, at: number, stride: number, rows: number, columns: number, add: boolean): void {
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) {
      const i = at + r * stride + c;
      y[i] = add ? y[i]! + tile[r * TILE + c]! : tile[r * TILE + c]!;
    }
}

/** Few rows, as when one token is decoded: packing b would cost more than it saves, so b is streamed once per row. */
function rowByRow(
  a: Matrix,
  b: Matrix,
  y: Floats,
  yOffset: number,
  yStride: number,
  m: number,
  n: number,
  k: number,
  accumulate: boolean,
): void {
  const x = new Float64Array(k);
  const sums = new Float64Array(n);
  for (let i = 0; i < m; i++) {
    for (let p = 0; p < k; p++) x[p] = a.data[a.offset + i * a.rowStride + p * a.columnStride]!;
    if (b.rowStride === 1) dotProducts(x, b, n, sums);
    else {
      sums.fill(0);
      for (let p = 0; p < k; p++) addMultiple(x[p]!, b.data, b.offset + p * b.rowStride, b.columnStride, sums);
    }
    const at = yOffset + i * yStride;
    for (let j = 0; j < n; j++) y[at + j] = accumulate ? y[at + j]! + sums[j]! : sums[j]!;
  }
}

/** sums[j] = x . column j of b, whose columns are contiguous: four at a time, since one sum would wait for itself. */
function dotProducts(x: Float64Array, { data, offset, columnStride }: Matrix, n: number, sums: Float64Array): void {
  for (let j = 0; j < n; j += 4) {
    // Columns past the last are the last again, and not stored.
    const q0 = offset + j * columnStride;
    const q1 = offset + Math.min(j + 1, n - 1) * columnStride;
    const q2 = offset + Math.min(j + 2, n - 1) * columnStride;
    const q3 = offset + Math.min(j + 3, n - 1) * columnStride;
    let [s0, s1, s2, s3] = [0, 0, 0, 0];
    for (let p = 0; p < x.length; p++) {
      const xp = x[p]!;
      s0 += xp * data[q0 + p]!;
      s1 += xp * data[q1 + p]!;
      s2 += xp * data[q2 + p]!;
      s3 += xp * data[q3 + p]!;
    }
    sums[j] = s0;
    if (j + 1 < n) sums[j + 1] = s1;
    if (j + 2 < n) sums[j + 2] = s2;
    if (j + 3 < n) sums[j + 3] = s3;
  }
}

/** sums[j] += x data[from + j step] */
function addMultiple(x: number, data: Floats, from: number, step: number, sums: Float64Array): void {
  for (let j = 0, q = from; j < sums.length; j++, q += step) sums[j] = sums[j]! + x * data[q]!;
}
