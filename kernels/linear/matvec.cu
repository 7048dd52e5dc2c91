// y = x weight^T + bias for a few rows x in float32, weights as they are stored: a warp a row of the weight. Bytes: the weight once.
#include "../common/step.cuh"

template <class W, int B> __device__ void matvec(const float* x, const W* weight, const float* bias, float* y, i64 rows, i64 width, i64 outs, i64 stride) {
  const int lane = threadIdx.x % 32;
  const i64 row = blockIdx.x * (i64)(blockDim.x / 32) + threadIdx.x / 32;
  if (row >= outs) return;
  RowProduct<W, B, 8> product;
  product.ahead(weight + row * width, (int)width, lane, 32);
  awaitPrevious();
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
    matvec<W, B>(x, weight, bias, y, rows, width, outs, stride);                                                                          \
  }
#define KERNELS(name, W) MATVEC(name, W, 1) MATVEC(name, W, 4)
KERNELS(float32, float)
KERNELS(bf16, bf16)
KERNELS(f16, f16)
