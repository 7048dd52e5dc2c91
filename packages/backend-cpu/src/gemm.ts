/**
 * y[m, n] (+)= a b, the loop nest of Goto and van de Geijn ("Anatomy of high-performance matrix multiplication", 2008): blocks of a and
 * panels of b are packed so that the inner kernel reads both in order; it keeps a 4 x 4 tile of sums in registers.
 * Packing to doubles costs one conversion per element instead of one per product.
 */
type Numbers = Float32Array | Float64Array;
const TILE = 4;
const ROWS = 128;
const DEPTH = 512;
const packedA = new Float64Array(ROWS * DEPTH);
const packedB = new Float64Array(TILE * DEPTH);
const tile = new Float64Array(TILE * TILE);

/** A matrix in memory: element (i, j) is data[offset + i * rowStride + j * columnStride]. */
export interface Matrix {
  readonly data: Numbers;
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
  y: Numbers,
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

function store(y: Numbers, at: number, stride: number, rows: number, columns: number, add: boolean): void {
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
  y: Numbers,
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
    if (b.rowStride === 1) for (let j = 0; j < n; j++) sums[j] = dot(x, b.data, b.offset + j * b.columnStride, k);
    else {
      sums.fill(0);
      for (let p = 0; p < k; p++) {
        const xp = x[p]!;
        const from = b.offset + p * b.rowStride;
        for (let j = 0; j < n; j++) sums[j] = sums[j]! + xp * b.data[from + j * b.columnStride]!;
      }
    }
    const at = yOffset + i * yStride;
    for (let j = 0; j < n; j++) y[at + j] = accumulate ? y[at + j]! + sums[j]! : sums[j]!;
  }
}

function dot(x: Float64Array, b: Numbers, at: number, k: number): number {
  let [s0, s1, s2, s3] = [0, 0, 0, 0];
  let p = 0;
  for (; p + 3 < k; p += 4) {
    s0 += x[p]! * b[at + p]!;
    s1 += x[p + 1]! * b[at + p + 1]!;
    s2 += x[p + 2]! * b[at + p + 2]!;
    s3 += x[p + 3]! * b[at + p + 3]!;
  }
  for (; p < k; p++) s0 += x[p]! * b[at + p]!;
  return s0 + s1 + (s2 + s3);
}
