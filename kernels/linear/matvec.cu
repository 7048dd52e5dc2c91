// y = x weight^T + bias, float32, for a few rows x in float32 or the weights' half format, weights as they are stored: a warp a row of the weight. Bytes: the weight once.
#include "../common/step.cuh"

template <class X, class W, int B> __device__ void matvec(const X* x, const W* weight, const float* bias, float* y, i64 rows, i64 width, i64 outs, i64 stride) {
  const int lane = threadIdx.x % 32;
  const i64 row = blockIdx.x * (i64)(blockDim.x / 32) + threadIdx.x / 32;
  if (row >= outs) return;
  RowProduct<W, B, 8> product;
  product.ahead(weight + row * width, (int)width, lane, 32);
  awaitPrevious();
  letNext();
  const i64 b0 = (i64)blockIdx.y * B;
  const int count = (int)min((i64)B, rows - b0);
  float sums[B];
  product.finish(x + b0 * stride, stride, count, sums);
  float own = 0;
#pragma unroll
  for (int b = 0; b < B; b++) {
    const float sum = warpSum(sums[b]);
    if (lane == b) own = sum;
  }
  if (lane < count) y[(b0 + lane) * outs + row] = own + (bias ? bias[row] : 0.0f);
}

// One row x in the weights' half format, its width a multiple of 8 and at most 256 PACKS: a warp takes R rows of the weight, all of whose loads are on
// their way at once, and sums them with few exchanges.
template <class W, int R, int PACKS> __device__ void matvecRows(const W* x, const W* weight, const float* bias, float* y, i64 width, i64 outs) {
  const int lane = threadIdx.x % 32;
  const i64 first = (blockIdx.x * (i64)(blockDim.x / 32) + threadIdx.x / 32) * R;
  if (first >= outs) return;
  Pack<W> weights[R][PACKS];
#pragma unroll
  for (int r = 0; r < R; r++)
#pragma unroll
    for (int k = 0; k < PACKS; k++)
      if ((lane + 32 * k) * 8 < width) weights[r][k] = fetch(weight + min(first + r, outs - 1) * width + (lane + 32 * k) * 8);
  awaitPrevious();
  letNext();
  float sums[R] = {};
#pragma unroll
  for (int k = 0; k < PACKS; k++)
    if ((lane + 32 * k) * 8 < width) {
      Pack<W> v;
      v.bits = *(const uint4*)(x + (lane + 32 * k) * 8);
#pragma unroll
      for (int j = 0; j < 8; j++) {
        const float own = widen(v.values[j]);
#pragma unroll
        for (int r = 0; r < R; r++) sums[r] += widen(weights[r][k].values[j]) * own;
      }
    }
  // Lanes hand over half of their sums at a time, until each has one.
#pragma unroll
  for (int step = 1; step < R; step *= 2)
#pragma unroll
    for (int r = 0; r < R; r += 2 * step) {
      const bool isHigh = lane & step;
      sums[r] = (isHigh ? sums[r + step] : sums[r]) + __shfl_xor_sync(~0u, isHigh ? sums[r] : sums[r + step], step);
    }
#pragma unroll
  for (int step = R; step < 32; step *= 2) sums[0] += __shfl_xor_sync(~0u, sums[0], step);
  if (lane < R && first + lane < outs) y[first + lane] = sums[0] + (bias ? bias[first + lane] : 0.0f);
}

#define MATVEC(name, W, B)                                                                                                                 \
  extern "C" __global__ void __launch_bounds__(128) matvec_##B##_##name(const float* x, const W* weight, const float* bias, float* y,      \
                                                                       i64 rows, i64 width, i64 outs, i64 stride) {                       \
    matvec<float, W, B>(x, weight, bias, y, rows, width, outs, stride);                                                                   \
  }
#define MATVEC_HALF(name, W, B)                                                                                                            \
  extern "C" __global__ void __launch_bounds__(128) matvec_half_##B##_##name(const W* x, const W* weight, const float* bias, float* y,     \
                                                                            i64 rows, i64 width, i64 outs, i64 stride) {                  \
    matvec<W, W, B>(x, weight, bias, y, rows, width, outs, stride);                                                                       \
  }
MATVEC_HALF(bf16, bf16, 1)
MATVEC_HALF(bf16, bf16, 4)
MATVEC_HALF(f16, f16, 1)
MATVEC_HALF(f16, f16, 4)
#define KERNELS(name, W) MATVEC(name, W, 1) MATVEC(name, W, 4)
KERNELS(float32, float)
KERNELS(bf16, bf16)
KERNELS(f16, f16)
#define ROWS(name, W, R, PACKS)                                                                                                          \
  extern "C" __global__ void __launch_bounds__(128) matvec_rows_##R##_##PACKS##_##name(const W* x, const W* weight, const float* bias,     \
                                                                                       float* y, i64 width, i64 outs) {                   \
    matvecRows<W, R, PACKS>(x, weight, bias, y, width, outs);                                                                             \
  }
ROWS(bf16, bf16, 4, 4)
ROWS(bf16, bf16, 2, 8)
ROWS(bf16, bf16, 2, 16)
ROWS(f16, f16, 4, 4)
ROWS(f16, f16, 2, 8)
ROWS(f16, f16, 2, 16)
