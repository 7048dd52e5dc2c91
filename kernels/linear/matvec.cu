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
