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
