// RMS norm and layer norm with a residual added first: a block a row, statistics in float32 (float64 for float64). Forward bytes: x, residual, sum and y
// once each (the row is read again from the cache). Backward: s and gy twice, gs once; the gradients of weight and bias are summed by each block over the
// rows it takes and joined afterwards, in order.
#include <type_traits>

#include "../common/rows.cuh"

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

// Rows of a multiple of 4 elements, held in registers (common/rows.cuh): of up to 2,048 a warp a row; where rows are too few for that to fill the chip, of up
// to 4,096 a block of 256 a row. Backward, a warp takes every gridDim.x-th row of its block's and keeps the gradients of weight and bias, which the block
// then joins in the order of its warps.
template <class T, int THREADS, int QUADS> __device__ void forwardRows(const T* x, const float* residual, const float* weight, const float* bias, T* y, float* sum,
                                                                       i64 rows, int width, float eps, bool centred) {
  constexpr bool IS_BLOCK = THREADS > 32;
  __shared__ float scratch[IS_BLOCK ? 32 : 1];
  const int thread = threadIdx.x % THREADS;
  const i64 row = blockIdx.x * (i64)(blockDim.x / THREADS) + threadIdx.x / THREADS, at = row * width;
  if (row >= rows) return;
  awaitPrevious();
  letNext();
  float s[QUADS][4], ahead[IS_BLOCK ? QUADS : 1][4];
  loadRow<THREADS>(x + at, thread, width, s);
  // A block has the registers to fetch its weights meanwhile.
  if (IS_BLOCK && weight) loadRow<THREADS>(weight, thread, width, ahead);
  if (IS_BLOCK && residual) addRow<THREADS>(residual + at, thread, width, s);
  if (residual)
#pragma unroll
    for (int k = 0; k < QUADS; k++) {
      const int j = 4 * (thread + k * THREADS);
      if (j >= width) continue;
      if (!IS_BLOCK) {
        float more[4];
        load(residual + at + j, more);
#pragma unroll
        for (int i = 0; i < 4; i++) s[k][i] += more[i];
      }
      store(sum + at + j, s[k]);
    }
  const Statistics<float> st = rowStatistics<THREADS>(s, thread, width, eps, centred, scratch);
#pragma unroll
  for (int k = 0; k < QUADS; k++) {
    const int j = 4 * (thread + k * THREADS);
    if (j >= width) continue;
    float w[4] = {1, 1, 1, 1}, b[4] = {};
    if (weight) {
      if (!IS_BLOCK) load(weight + j, w);
      else
#pragma unroll
        for (int i = 0; i < 4; i++) w[i] = ahead[IS_BLOCK ? k : 0][i];
    }
    if (bias) load(bias + j, b);
#pragma unroll
    for (int i = 0; i < 4; i++) w[i] = (s[k][i] - st.mean) * st.scale * w[i] + b[i];
    store(y + at + j, w);
  }
}

template <class T, int QUADS, bool centred> __device__ void backwardRows(const float* s, const float* weight, const T* gy, const float* gSum, float* gs, T* gx, float* parts,
                                                           i64 rows, int width, float eps) {
  extern __shared__ float joined[];  // [2][width]
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  float gWeight[QUADS][4] = {}, gBias[centred ? QUADS : 1][4] = {};
  for (i64 row = blockIdx.x * (i64)warps + warp; row < rows; row += gridDim.x * (i64)warps) {
    const i64 at = row * width;
    float n[QUADS][4], g[QUADS][4];
#pragma unroll
    for (int k = 0; k < QUADS; k++) {
      const int j = (lane + 32 * k) * 4;
      if (j >= width) continue;
      load(s + at + j, n[k]);
      load(gy + at + j, g[k]);
    }
    const Statistics<float> st = rowStatistics<32>(n, lane, width, eps, centred);
    float meanG = 0, meanGN = 0;
#pragma unroll
    for (int k = 0; k < QUADS; k++) {
      const int j = (lane + 32 * k) * 4;
      if (j >= width) continue;
      float w[4] = {1, 1, 1, 1};
      if (weight) load(weight + j, w);
#pragma unroll
      for (int i = 0; i < 4; i++) {
        n[k][i] = (n[k][i] - st.mean) * st.scale;
        gWeight[k][i] += g[k][i] * n[k][i];
        if (centred) gBias[centred ? k : 0][i] += g[k][i];
        g[k][i] *= w[i];
        meanG += g[k][i];
        meanGN += g[k][i] * n[k][i];
      }
    }
    meanG = centred ? warpSum(meanG) / width : 0.0f;
    meanGN = warpSum(meanGN) / width;
#pragma unroll
    for (int k = 0; k < QUADS; k++) {
      const int j = (lane + 32 * k) * 4;
      if (j >= width) continue;
      float more[4] = {};
      if (gSum) load(gSum + at + j, more);
#pragma unroll
      for (int i = 0; i < 4; i++) more[i] += st.scale * (g[k][i] - meanG - n[k][i] * meanGN);
      store(gs + at + j, more);
      if (gx) store(gx + at + j, more);
    }
  }
  for (int w = 0; w < warps; w++) {
    if (warp == w)
#pragma unroll
      for (int k = 0; k < QUADS; k++) {
        const int j = (lane + 32 * k) * 4;
        if (j >= width) continue;
#pragma unroll
        for (int i = 0; i < 4; i++) {
          joined[j + i] = (w == 0 ? 0.0f : joined[j + i]) + gWeight[k][i];
          joined[width + j + i] = (w == 0 ? 0.0f : joined[width + j + i]) + (centred ? gBias[centred ? k : 0][i] : 0.0f);
        }
      }
    __syncthreads();
  }
  for (int j = threadIdx.x; j < 2 * width; j += blockDim.x) parts[blockIdx.x * 2 * (i64)width + j] = joined[j];
}

#define BACKWARD_ROWS(name, T, QUADS, CENTRED, suffix)                                                                                           \
  extern "C" __global__ void __launch_bounds__(128) norm_backward_rows_##QUADS##suffix##_##name(                                                \
      const float* s, const float* weight, const T* gy, const float* gSum, float* gs, T* gx, float* parts, i64 rows, i64 width, double eps) {   \
    backwardRows<T, QUADS, CENTRED>(s, weight, gy, gSum, gs, gx, parts, rows, (int)width, (float)eps);                                          \
  }
#define NORM_FEW(name, T, QUADS)                                                                                                                        \
  extern "C" __global__ void __launch_bounds__(256) norm_forward_few_##QUADS##_##name(                                                                  \
      const T* x, const float* residual, const float* weight, const float* bias, T* y, float* sum, i64 rows, i64 width, double eps, int centred) {      \
    forwardRows<T, 256, QUADS>(x, residual, weight, bias, y, sum, rows, (int)width, (float)eps, centred);                                               \
  }
#define NORM_ROWS(name, T, QUADS)                                                                                                                       \
  extern "C" __global__ void __launch_bounds__(128) norm_forward_rows_##QUADS##_##name(                                                                 \
      const T* x, const float* residual, const float* weight, const float* bias, T* y, float* sum, i64 rows, i64 width, double eps, int centred) {      \
    forwardRows<T, 32, QUADS>(x, residual, weight, bias, y, sum, rows, (int)width, (float)eps, centred);                                                \
  }                                                                                                                                                     \
  BACKWARD_ROWS(name, T, QUADS, false, _rms)                                                                                                    \
  BACKWARD_ROWS(name, T, QUADS, true, _layer)
#define EACH_SIZE(name, T)                                                                                  \
  NORM_ROWS(name, T, 2) NORM_ROWS(name, T, 6) NORM_ROWS(name, T, 8) NORM_ROWS(name, T, 16)                  \
  NORM_FEW(name, T, 1) NORM_FEW(name, T, 2) NORM_FEW(name, T, 4)
EACH_SIZE(float32, float)
EACH_SIZE(bf16, bf16)
EACH_SIZE(f16, f16)
