// The matrix product where cuBLASLt is not there: 64 x 64 tiles, 16 deep, 4 x 4 sums a thread. y[m, n] = a[m, k] b[k, n], element (i, j) of an
// operand at i * row + j * column. Operations: 2 m n k; bytes: (m k n/64 + k n m/64 + m n) elements.
#include "../common/types.cuh"

template <class T, class O> __device__ void product(const T* a, const T* b, O* y, i64 m, i64 n, i64 k, i64 aRow, i64 aColumn, i64 bRow,
                                                    i64 bColumn, i64 aBatch, i64 bBatch) {
  using W = Wide<T>;
  __shared__ W left[16][65], right[16][65];
  a += blockIdx.z * aBatch;
  b += blockIdx.z * bBatch;
  y += blockIdx.z * m * n;
  const i64 row0 = blockIdx.y * 64, column0 = blockIdx.x * 64;
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  W sums[4][4] = {};
  for (i64 p0 = 0; p0 < k; p0 += 16) {
    for (int e = threadIdx.x; e < 1024; e += 256) {
      // Neighbouring threads read along the axis that lies together in memory.
      const int i = aColumn == 1 ? e / 16 : e % 64, p = aColumn == 1 ? e % 16 : e / 64;
      left[p][i] = row0 + i < m && p0 + p < k ? widen(a[(row0 + i) * aRow + (p0 + p) * aColumn]) : W(0);
      const int j = bColumn == 1 ? e % 64 : e / 16, q = bColumn == 1 ? e / 64 : e % 16;
      right[q][j] = column0 + j < n && p0 + q < k ? widen(b[(p0 + q) * bRow + (column0 + j) * bColumn]) : W(0);
    }
    __syncthreads();
#pragma unroll
    for (int p = 0; p < 16; p++)
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sums[i][j] += left[p][ty * 4 + i] * right[p][tx + 16 * j];
    __syncthreads();
  }
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) {
      const i64 row = row0 + ty * 4 + i, column = column0 + tx + 16 * j;
      if (row < m && column < n) y[row * n + column] = narrow<O>((Wide<O>)sums[i][j]);
    }
}

#define PRODUCT(in, T, out, O)                                                                                                    \
  extern "C" __global__ void __launch_bounds__(256)                                                                               \
      matmul_##in##_##out(const T* a, const T* b, O* y, i64 m, i64 n, i64 k, i64 aRow, i64 aColumn, i64 bRow, i64 bColumn,        \
                          i64 aBatch, i64 bBatch) {                                                                               \
    product<T, O>(a, b, y, m, n, k, aRow, aColumn, bRow, bColumn, aBatch, bBatch);                                                \
  }
#define PRODUCTS(in, T)             \
  PRODUCT(in, T, float32, float)    \
  PRODUCT(in, T, float64, double)   \
  PRODUCT(in, T, bf16, bf16)        \
  PRODUCT(in, T, f16, f16)
EACH_FLOAT(PRODUCTS)
