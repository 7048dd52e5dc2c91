// Rows by index, and its adjoint. gather: one thread an element. scatterAdd adds in the order of the indices, the same bits every time: a block a row
// of the result, which looks for its updates; or, where the updates are fewer, a block an update, of which the first for each row adds all of them
// (the rest of the result is zero already). Bytes moved: the indices once a block, updates and result once.
#include "../common/chain.cuh"
#include "../common/types.cuh"

#define GATHER(name, T)                                                                                                       \
  extern "C" __global__ void gather_##name(const T* x, const int* indices, T* y, i64 total, i64 n, i64 count, i64 inner) {    \
    awaitPrevious();                                                                                                          \
    letNext();                                                                                                                \
    EACH_ELEMENT(i, total) {                                                                                                  \
      const i64 column = i % inner, row = i / inner, outer = row / count;                                                     \
      const i64 index = indices[row % count];                                                                                 \
      y[i] = index < 0 || index >= n ? narrow<T>(0) : x[(outer * n + index) * inner + column];                                \
    }                                                                                                                         \
  }
EACH_DTYPE(GATHER)

// blockIdx.x: row of the result (outer * n + index); blockIdx.y: 256 columns.
template <class T> __device__ void scatter(const int* indices, const T* updates, T* y, i64 n, i64 count, i64 inner) {
  __shared__ int matches[256];
  __shared__ int found;
  const i64 outer = blockIdx.x / n, target = blockIdx.x % n, column = blockIdx.y * 256 + threadIdx.x;
  Wide<T> sum = 0;
  for (i64 from = 0; from < count; from += 256) {
    const i64 k = from + threadIdx.x;
    const bool isMine = k < count && indices[k] == target;
    // Most stretches hold no row for this one.
    if (!__syncthreads_or(isMine)) continue;
    if (threadIdx.x == 0) found = 0;
    matches[threadIdx.x] = isMine;
    __syncthreads();
    if (threadIdx.x == 0) {
      int next = 0;
      for (int i = 0; i < 256; i++)
        if (matches[i]) matches[next++] = i;
      found = next;
    }
    __syncthreads();
    if (column < inner)
      for (int i = 0; i < found; i++) sum += widen(updates[(outer * count + from + matches[i]) * inner + column]);
    __syncthreads();
  }
  if (column < inner) y[blockIdx.x * inner + column] = narrow<T>(sum);
}
#define SCATTER(name, T)                                                                                                        \
  extern "C" __global__ void __launch_bounds__(256)                                                                             \
      scatter_add_##name(const int* indices, const T* updates, T* y, i64 n, i64 count, i64 inner) {                             \
    scatter<T>(indices, updates, y, n, count, inner);                                                                           \
  }
EACH_DTYPE(SCATTER)

// blockIdx.x: an update; blockIdx.y: outer. Shared: [inner] sums.
template <class T> __device__ void scatterFirst(const int* indices, const T* updates, T* y, i64 n, i64 count, i64 inner) {
  extern __shared__ double storage[];
  Wide<T>* sums = (Wide<T>*)storage;
  __shared__ int found[8], matches[256];
  const i64 own = blockIdx.x, outer = blockIdx.y;
  const int target = indices[own], lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (target < 0 || target >= n) return;
  for (i64 from = 0; from < own; from += 256) {
    const i64 k = from + threadIdx.x;
    if (__syncthreads_or(k < own && indices[k] == target)) return;
  }
  for (int j = threadIdx.x; j < inner; j += 256) sums[j] = 0;
  for (i64 from = own; from < count; from += 256) {
    const i64 k = from + threadIdx.x;
    const bool isMine = k < count && indices[k] == target;
    if (!__syncthreads_or(isMine)) continue;
    const unsigned votes = __ballot_sync(~0u, isMine);
    if (lane == 0) found[warp] = __popc(votes);
    __syncthreads();
    int before = __popc(votes & ((1u << lane) - 1)), all = 0;
    for (int w = 0; w < 8; w++) {
      if (w < warp) before += found[w];
      all += found[w];
    }
    if (isMine) matches[before] = threadIdx.x;
    __syncthreads();
    for (int j = threadIdx.x; j < inner; j += 256) {
      Wide<T> sum = sums[j];
      for (int i = 0; i < all; i++) sum += widen(updates[(outer * count + from + matches[i]) * inner + j]);
      sums[j] = sum;
    }
    __syncthreads();
  }
  for (int j = threadIdx.x; j < inner; j += 256) y[(outer * n + target) * inner + j] = narrow<T>(sums[j]);
}
#define SCATTER_FIRST(name, T)                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256)                                                                             \
      scatter_first_##name(const int* indices, const T* updates, T* y, i64 n, i64 count, i64 inner) {                           \
    scatterFirst<T>(indices, updates, y, n, count, inner);                                                                      \
  }
EACH_DTYPE(SCATTER_FIRST)
