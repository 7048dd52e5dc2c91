// Moves elements between strided views: copy, concat, pad. The type is only a size. Bytes moved: what is read once, what is written once.
#include "../common/types.cuh"

struct View {
  i64 rank, size[8], from[8], to[8];
};

#define COPY(name, T)                                                                             \
  extern "C" __global__ void copy_##name(const T* x, T* y, i64 n, View view, i64 from, i64 to) {  \
    EACH_ELEMENT(i, n) {                                                                          \
      i64 rest = i, source = from, target = to;                                                   \
      for (int d = (int)view.rank - 1; d >= 0; d--) {                                             \
        const i64 next = rest / view.size[d], k = rest - next * view.size[d];                     \
        source += k * view.from[d];                                                               \
        target += k * view.to[d];                                                                 \
        rest = next;                                                                              \
      }                                                                                           \
      y[target] = x[source];                                                                      \
    }                                                                                             \
  }
COPY(2, short)
COPY(4, int)
COPY(8, double)

// Rows of `width` units, each contiguous on both sides.
#define ROWS(name, T)                                                                                                        \
  extern "C" __global__ void copy_rows_##name(const T* x, T* y, i64 rows, i64 width, i64 fromStride, i64 toStride) {         \
    const unsigned n = (unsigned)width;                                                                                      \
    for (i64 first = blockIdx.y * (i64)blockDim.y + threadIdx.y; first < rows; first += gridDim.y * (i64)blockDim.y)                                                        \
      for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)                           \
        y[first * toStride + i] = x[first * fromStride + i];                                                                 \
  }
ROWS(2, short)
ROWS(4, int)
ROWS(8, double)
ROWS(16, int4)
