// The loss of rows whose logits are there, and the gradient with respect to these logits; a block a row. Only the logits of a few rows exist at a time.
// Bytes: the logits twice forward (once from the cache), once more backward.
#include "../common/types.cuh"

template <class T> __device__ void losses(const T* logits, const int* targets, T* loss, T* logSums, i64 vocab) {
  __shared__ T scratch[32];
  const T* row = logits + blockIdx.x * vocab;
  T top = -INFINITY;
  for (i64 v = threadIdx.x; v < vocab; v += blockDim.x) top = fmax(top, row[v]);
  top = blockMax(top, scratch);
  T sum = 0;
  for (i64 v = threadIdx.x; v < vocab; v += blockDim.x) sum += exp(row[v] - top);
  sum = blockSum(sum, scratch);
  if (threadIdx.x != 0) return;
  const T lse = top + log(sum);
  const int target = targets[blockIdx.x];
  loss[blockIdx.x] = target < 0 ? T(0) : lse - row[target];
  logSums[blockIdx.x] = lse;
}

// (softmax - one at the target) gLoss, in the type of the products that follow.
template <class T, class O> __device__ void gradients(const T* logits, const int* targets, const T* logSums, const T* gLoss, O* g, i64 vocab) {
  const int target = targets[blockIdx.x];
  const T lse = logSums[blockIdx.x], up = target < 0 ? T(0) : gLoss[blockIdx.x];
  for (i64 v = threadIdx.x; v < vocab; v += blockDim.x) {
    const i64 at = blockIdx.x * vocab + v;
    g[at] = narrow<O>((Wide<O>)(target < 0 ? T(0) : up * (exp(logits[at] - lse) - (v == target ? T(1) : T(0)))));
  }
}

// The same for rows that are multiples of 4, float32: 16 bytes at a time, maximum and sum in one pass.
__device__ __forceinline__ void lossesByQuads(const float* logits, const int* targets, float* loss, float* logSums, i64 vocab) {
  __shared__ float scratch[32];
  const float* row = logits + blockIdx.x * vocab;
  float top = -INFINITY, sum = 0;
#pragma unroll 4
  for (i64 v = threadIdx.x; v < vocab / 4; v += blockDim.x) {
    const float4 x = ((const float4*)row)[v];
    const float most = fmaxf(fmaxf(x.x, x.y), fmaxf(x.z, x.w));
    if (most > top) sum *= expf(top - most), top = most;
    sum += (expf(x.x - top) + expf(x.y - top)) + (expf(x.z - top) + expf(x.w - top));
  }
  const float all = blockMax(top, scratch);
  sum = blockSum(sum == 0 ? 0.0f : sum * expf(top - all), scratch);
  if (threadIdx.x != 0) return;
  const float lse = all + logf(sum);
  const int target = targets[blockIdx.x];
  loss[blockIdx.x] = target < 0 ? 0.0f : lse - row[target];
  logSums[blockIdx.x] = lse;
}
template <class O> struct alignas(4 * sizeof(O)) Quad {
  O values[4];
};
template <class O> __device__ void gradientsByQuads(const float* logits, const int* targets, const float* logSums, const float* gLoss, O* g, i64 vocab) {
  const int target = targets[blockIdx.x];
  const float lse = logSums[blockIdx.x], up = target < 0 ? 0.0f : gLoss[blockIdx.x];
  const float4* row = (const float4*)(logits + blockIdx.x * vocab);
  Quad<O>* into = (Quad<O>*)(g + blockIdx.x * vocab);
#pragma unroll 4
  for (i64 v = threadIdx.x; v < vocab / 4; v += blockDim.x) {
    const float4 x = row[v];
    const float values[4] = {x.x, x.y, x.z, x.w};
    Quad<O> quad;
#pragma unroll
    for (int k = 0; k < 4; k++)
      quad.values[k] = narrow<O>(target < 0 ? 0.0f : up * (expf(values[k] - lse) - (4 * v + k == target ? 1.0f : 0.0f)));
    into[v] = quad;
  }
}
extern "C" __global__ void __launch_bounds__(512) cross_entropy_quads_float32(const float* logits, const int* targets, float* loss, float* logSums,
                                                                              i64 vocab) {
  lossesByQuads(logits, targets, loss, logSums, vocab);
}
#define GRADIENT_QUADS(name, O)                                                                                                            \
  extern "C" __global__ void __launch_bounds__(512) cross_entropy_gradient_quads_##name(const float* logits, const int* targets,          \
                                                                                       const float* logSums, const float* gLoss, O* g,    \
                                                                                       i64 vocab) {                                       \
    gradientsByQuads<O>(logits, targets, logSums, gLoss, g, vocab);                                                                       \
  }
GRADIENT_QUADS(float32, float)
GRADIENT_QUADS(bf16, bf16)
GRADIENT_QUADS(f16, f16)

extern "C" __global__ void cross_entropy_float32(const float* logits, const int* targets, float* loss, float* logSums, i64 vocab) {
  losses<float>(logits, targets, loss, logSums, vocab);
}
extern "C" __global__ void cross_entropy_float64(const double* logits, const int* targets, double* loss, double* logSums, i64 vocab) {
  losses<double>(logits, targets, loss, logSums, vocab);
}
#define GRADIENT(name, T, O)                                                                                                           \
  extern "C" __global__ void cross_entropy_gradient_##name(const T* logits, const int* targets, const T* logSums, const T* gLoss, O* g, \
                                                           i64 vocab) {                                                                \
    gradients<T, O>(logits, targets, logSums, gLoss, g, vocab);                                                                        \
  }
GRADIENT(float32, float, float)
GRADIENT(float64, double, double)
GRADIENT(bf16, float, bf16)
GRADIENT(f16, float, f16)
