// Rows by index, and its adjoint. gather: one thread an element. scatterAdd: a block a row of the result, which reads the indices in order
// and adds the rows that are meant for it, so that the sum has one order. Bytes moved: indices once per row of the result, updates once.
#include "../common/types.cuh"

#define GATHER(name, T)                                                                                                       \
  extern "C" __global__ void gather_##name(const T* x, const int* indices, T* y, i64 total, i64 n, i64 count, i64 inner) {    \
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
