// Reductions of one axis of [outer, n, inner], in a fixed order: the same bits every run. Bytes moved: the input once.
#include "../common/types.cuh"

template <class W> __device__ __forceinline__ W worst() { return -INFINITY; }
template <> __device__ __forceinline__ int worst<int>() { return (int)0x80000000; }
// NaN passes through, as in the primitive.
template <class W> __device__ __forceinline__ W joined(int op, W a, W b) {
  return op == 0 ? a + b : a != a ? a : b != b ? b : a > b ? a : b;
}

// inner = 1: a block a row.
template <class T> __device__ void rows(const T* x, T* y, i64 n, int op) {
  using W = Wide<T>;
  __shared__ W scratch[256];
  const T* row = x + blockIdx.x * n;
  W own = op == 0 ? W(0) : worst<W>();
  for (i64 i = threadIdx.x; i < n; i += blockDim.x) own = joined<W>(op, own, widen(row[i]));
  scratch[threadIdx.x] = own;
  for (int half = blockDim.x / 2; half > 0; half >>= 1) {
    __syncthreads();
    if (threadIdx.x < half) scratch[threadIdx.x] = joined<W>(op, scratch[threadIdx.x], scratch[threadIdx.x + half]);
  }
  if (threadIdx.x == 0) y[blockIdx.x] = narrow<T>(scratch[0]);
}

// inner > 1: 32 columns a block, 8 threads a column; blockIdx.z takes every gridDim.z-th part of the axis, for a second pass to join.
template <class T, class O> __device__ void columns(const T* x, O* y, i64 n, i64 inner, i64 part, int op) {
  using W = Wide<T>;
  __shared__ W scratch[8][33];
  const i64 column = blockIdx.x * 32 + threadIdx.x, outer = blockIdx.y;
  const i64 from = blockIdx.z * part, to = min(n, from + part);
  W own = op == 0 ? W(0) : worst<W>();
  if (column < inner)
    for (i64 i = from + threadIdx.y; i < to; i += 8) own = joined<W>(op, own, widen(x[(outer * n + i) * inner + column]));
  scratch[threadIdx.y][threadIdx.x] = own;
  __syncthreads();
  if (threadIdx.y != 0 || column >= inner) return;
  for (int k = 1; k < 8; k++) own = joined<W>(op, own, scratch[k][threadIdx.x]);
  y[(outer * gridDim.z + blockIdx.z) * inner + column] = narrow<O>((Wide<O>)own);
}

// The first extreme element; NaN is more extreme than anything.
template <class W> __device__ __forceinline__ bool beats(int op, W a, W b) {
  if (b != b) return false;
  return a != a || (op == 0 ? a > b : a < b);
}
template <class T> __device__ void extremes(const T* x, int* y, i64 n, i64 inner, i64 total, int op) {
  using W = Wide<T>;
  // A warp an element of the result: each lane keeps the first of its best, then the lanes compare.
  const i64 warp = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
  const int lane = threadIdx.x % 32;
  if (warp >= total) return;
  const i64 start = warp / inner * n * inner + warp % inner;
  i64 best = -1;
  W value = 0;
  for (i64 i = lane; i < n; i += 32) {
    const W candidate = widen(x[start + i * inner]);
    if (best < 0 || beats<W>(op, candidate, value)) value = candidate, best = i;
  }
  for (int step = 16; step > 0; step >>= 1) {
    const i64 other = __shfl_xor_sync(~0u, best, step);
    const W otherValue = __shfl_xor_sync(~0u, value, step);
    const bool same = !beats<W>(op, otherValue, value) && !beats<W>(op, value, otherValue);
    if (other >= 0 && (best < 0 || beats<W>(op, otherValue, value) || (same && other < best))) value = otherValue, best = other;
  }
  if (lane == 0) y[warp] = (int)(best < 0 ? 0 : best);
}

#define KERNELS(name, T)                                                                                                        \
  extern "C" __global__ void reduce_rows_##name(const T* x, T* y, i64 n, int op) { rows<T>(x, y, n, op); }                      \
  extern "C" __global__ void reduce_columns_##name(const T* x, T* y, i64 n, i64 inner, i64 part, int op) {                      \
    columns<T, T>(x, y, n, inner, part, op);                                                                                    \
  }                                                                                                                             \
  extern "C" __global__ void reduce_parts_##name(const T* x, Wide<T>* y, i64 n, i64 inner, i64 part, int op) {                  \
    columns<T, Wide<T>>(x, y, n, inner, part, op);                                                                              \
  }                                                                                                                             \
  extern "C" __global__ void reduce_join_##name(const Wide<T>* x, T* y, i64 n, i64 inner, i64 part, int op) {                   \
    columns<Wide<T>, T>(x, y, n, inner, part, op);                                                                              \
  }                                                                                                                             \
  extern "C" __global__ void arg_reduce_##name(const T* x, int* y, i64 n, i64 inner, i64 total, int op) {                       \
    extremes<T>(x, y, n, inner, total, op);                                                                                     \
  }
EACH_DTYPE(KERNELS)
