// RMS norm and layer norm with a residual added first: a block a row, statistics in float32 (float64 for float64). Forward bytes: x, residual, sum and y
// once each (the row is read again from the cache). Backward: s and gy twice, gs once; the gradients of weight and bias are summed by each block over the
// rows it takes and joined afterwards, in order.
#include <type_traits>

#include "../common/types.cuh"

template <class W> struct Statistics {
  W mean, scale;
};
template <class R, class W> __device__ Statistics<W> statistics(const R* s, i64 width, W eps, bool centred, W* scratch) {
  W mean = 0;
  if (centred) {
    for (i64 j = threadIdx.x; j < width; j += blockDim.x) mean += widen(s[j]);
    mean = blockSum(mean, scratch) / width;
  }
  W squares = 0;
  for (i64 j = threadIdx.x; j < width; j += blockDim.x) {
    const W d = widen(s[j]) - mean;
    squares += d * d;
  }
  return {mean, W(1) / sqrt(blockSum(squares, scratch) / width + eps)};
}

template <class T, class R> __device__ void forward(const T* x, const R* residual, const Wide<T>* weight, const Wide<T>* bias, T* y, R* sum,
                                                    i64 width, double eps, int centred) {
  using W = Wide<T>;
  __shared__ W scratch[32];
  const i64 at = blockIdx.x * width;
  x += at, y += at;
  if (residual) {
    residual += at, sum += at;
    for (i64 j = threadIdx.x; j < width; j += blockDim.x) sum[j] = narrow<R>((Wide<R>)widen(x[j]) + widen(residual[j]));
    __syncthreads();
  }
  // What was stored is what is normalised, rounding included.
  const auto run = [&](const auto* s) {
    const Statistics<W> st = statistics<std::decay_t<decltype(*s)>, W>(s, width, (W)eps, centred, scratch);
    for (i64 j = threadIdx.x; j < width; j += blockDim.x) {
      W v = ((W)widen(s[j]) - st.mean) * st.scale;
      if (weight) v *= weight[j];
      if (bias) v += bias[j];
      y[j] = narrow<T>(v);
    }
  };
  if (residual) run((const R*)sum);
  else run(x);
}

// With n = (s - mean) scale and g = gy weight: gs = scale (g - mean(g) - n mean(g n)) + gSum, mean(g) for layer norm only.
template <class T, class R> __device__ void backward(const R* s, const Wide<T>* weight, const T* gy, const R* gSum, R* gs, T* gx, Wide<T>* parts,
                                                     i64 rows, i64 width, double eps, int centred) {
  using W = Wide<T>;
  __shared__ W scratch[32];
  W *gWeight = parts + blockIdx.x * 2 * width, *gBias = gWeight + width;
  for (i64 j = threadIdx.x; j < width; j += blockDim.x) gWeight[j] = gBias[j] = 0;
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const i64 at = row * width;
    const Statistics<W> st = statistics<R, W>(s + at, width, (W)eps, centred, scratch);
    W meanG = 0, meanGN = 0;
    if (gy)
      for (i64 j = threadIdx.x; j < width; j += blockDim.x) {
        const W n = ((W)widen(s[at + j]) - st.mean) * st.scale, up = widen(gy[at + j]), g = weight ? up * weight[j] : up;
        gWeight[j] += up * n;
        gBias[j] += up;
        meanG += g;
        meanGN += g * n;
      }
    meanG = centred ? blockSum(meanG, scratch) / width : 0;
    meanGN = blockSum(meanGN, scratch) / width;
    for (i64 j = threadIdx.x; j < width; j += blockDim.x) {
      const W n = ((W)widen(s[at + j]) - st.mean) * st.scale;
      const W g = gy ? (weight ? (W)widen(gy[at + j]) * weight[j] : (W)widen(gy[at + j])) : W(0);
      const W v = st.scale * (g - meanG - n * meanGN) + (gSum ? (W)widen(gSum[at + j]) : W(0));
      gs[at + j] = narrow<R>((Wide<R>)v);
      if (gx) gx[at + j] = narrow<T>(v);
    }
  }
}

#define NORM(name, T, R)                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(256) norm_forward_##name(const T* x, const R* residual, const Wide<T>* weight,               \
                                                                       const Wide<T>* bias, T* y, R* sum, i64 width, double eps,            \
                                                                       int centred) {                                                       \
    forward<T, R>(x, residual, weight, bias, y, sum, width, eps, centred);                                                                  \
  }                                                                                                                                         \
  extern "C" __global__ void __launch_bounds__(256) norm_backward_##name(const R* s, const Wide<T>* weight, const T* gy, const R* gSum,     \
                                                                        R* gs, T* gx, Wide<T>* parts, i64 rows, i64 width, double eps,      \
                                                                        int centred) {                                                      \
    backward<T, R>(s, weight, gy, gSum, gs, gx, parts, rows, width, eps, centred);                                                          \
  }
NORM(float32_float32, float, float)
NORM(float64_float64, double, double)
NORM(bf16_bf16, bf16, bf16)
NORM(f16_f16, f16, f16)
NORM(bf16_float32, bf16, float)
NORM(f16_float32, f16, float)
