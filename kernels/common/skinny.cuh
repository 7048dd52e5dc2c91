// The product of up to a few dozen rows with a weight matrix as it is stored: y[m, n] = x[m, k] weight[n, k], x and weight bf16 or f16, sums float32.
// A block of 8 warps takes 16 MT rows and 8 NT columns; its warps share out k, and their sums are joined in order. Both factors come straight into
// the fragments of mma.m16n8k16: within 32 elements of k the order is that of 16-byte loads, the same for both.
#pragma once
#include "step.cuh"

template <class W> __device__ __forceinline__ void mma(float (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1);
template <> __device__ __forceinline__ void mma<bf16>(float (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
template <> __device__ __forceinline__ void mma<f16>(float (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Bytes of shared memory: the sums of each warp. `put(row, column, sum, what)` gets each element once, with what `ahead(row, column)` fetched for it
// while sums were on their way; `warm(row, column)` may ask for that before the kernels before are done. k is a multiple of 32.
constexpr int skinnyBytes(int mt, int nt) { return 8 * 16 * mt * 8 * nt * 4; }
template <class W, int MT, int NT, int AHEAD, class P, class A, class F>
__device__ __forceinline__ void skinny(const W* x, i64 xStride, const W* weight, int m, int n, int k, float* parts, P warm, A ahead, F put) {
  constexpr int COLUMNS = 8 * NT, SIZE = 16 * MT * COLUMNS, EACH = (SIZE + 255) / 256;
  letNext();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, q = lane % 4, r = lane / 4;
  const int m0 = blockIdx.x * 16 * MT, n0 = blockIdx.y * 8 * NT, chunks = k / 32;
  const W *rowsA[MT][2], *rowsB[NT];
  // Rows and columns beyond the last repeat it: they are not put anywhere.
#pragma unroll
  for (int i = 0; i < MT; i++)
#pragma unroll
    for (int h = 0; h < 2; h++) rowsA[i][h] = x + (i64)min(m0 + 16 * i + 8 * h + r, m - 1) * xStride + 8 * q;
#pragma unroll
  for (int j = 0; j < NT; j++) rowsB[j] = weight + (i64)min(n0 + 8 * j + r, n - 1) * k + 8 * q;
  uint4 b[AHEAD][NT];
#pragma unroll
  for (int c = 0; c < AHEAD; c++)
    if (warp + 8 * c < chunks)
#pragma unroll
      for (int j = 0; j < NT; j++) b[c][j] = fetch(rowsB[j] + 32 * (warp + 8 * c)).bits;
#pragma unroll
  for (int e = 0; e < EACH; e++) {
    const int at = threadIdx.x + 256 * e, row = m0 + at / COLUMNS, column = n0 + at % COLUMNS;
    if (at < SIZE && row < m && column < n) warm(row, column);
  }
  awaitPrevious();
  float sums[MT][NT][4] = {};
  for (int first = warp; first < chunks; first += 8 * AHEAD) {
    uint4 a[AHEAD][MT][2];
#pragma unroll
    for (int c = 0; c < AHEAD; c++)
      if (first + 8 * c < chunks)
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
          for (int h = 0; h < 2; h++) a[c][i][h] = *(const uint4*)(rowsA[i][h] + 32 * (first + 8 * c));
#pragma unroll
    for (int c = 0; c < AHEAD; c++) {
      if (first + 8 * c >= chunks) break;
#pragma unroll
      for (int j = 0; j < NT; j++)
#pragma unroll
        for (int i = 0; i < MT; i++) {
          mma<W>(sums[i][j], a[c][i][0].x, a[c][i][1].x, a[c][i][0].y, a[c][i][1].y, b[c][j].x, b[c][j].y);
          mma<W>(sums[i][j], a[c][i][0].z, a[c][i][1].z, a[c][i][0].w, a[c][i][1].w, b[c][j].z, b[c][j].w);
        }
      const int next = first + 8 * (c + AHEAD);
      if (next < chunks)
#pragma unroll
        for (int j = 0; j < NT; j++) b[c][j] = fetch(rowsB[j] + 32 * next).bits;
    }
  }
  decltype(ahead(0, 0)) what[EACH];
#pragma unroll
  for (int e = 0; e < EACH; e++) {
    const int at = threadIdx.x + 256 * e, row = m0 + at / COLUMNS, column = n0 + at % COLUMNS;
    if (at < SIZE && row < m && column < n) what[e] = ahead(row, column);
  }
#pragma unroll
  for (int i = 0; i < MT; i++)
#pragma unroll
    for (int j = 0; j < NT; j++)
#pragma unroll
      for (int h = 0; h < 2; h++)
        *(float2*)(parts + warp * SIZE + (16 * i + 8 * h + r) * COLUMNS + 8 * j + 2 * q) = make_float2(sums[i][j][2 * h], sums[i][j][2 * h + 1]);
  __syncthreads();
#pragma unroll
  for (int e = 0; e < EACH; e++) {
    const int at = threadIdx.x + 256 * e, row = m0 + at / COLUMNS, column = n0 + at % COLUMNS;
    if (at >= SIZE || row >= m || column >= n) continue;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < 8; w++) sum += parts[w * SIZE + at];
    put(row, column, sum, what[e]);
  }
}
