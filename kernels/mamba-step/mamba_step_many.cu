// The other kernels of a block's step, for many sequences: see mamba_step.cu.
#include "../common/rows.cuh"
#include "../common/skinny.cuh"
#include "mamba_step.cuh"

// Products whose rows are multiples of 32.
struct ConvAhead {
  float past[3], taps[4], bias;
};
template <class W, int MT, int NT> __device__ void inProjectMany(const Step& s) {
  extern __shared__ float sums[];
  const int kept = (int)s.dConv - 1;
  skinny<W, MT, NT, 2>((const W*)s.normed, s.dModel, (const W*)s.inProj, (int)s.batch, (int)(2 * s.dInner), (int)s.dModel, sums,
      [&](int b, int row) {
        if (row % 8 == 0 && row < s.dInner)
          for (int k = 0; k < kept; k++) prefetch(s.convIn + ((i64)b * kept + k) * s.dInner + row);
      },
      [&](int b, int row) {
        ConvAhead ahead{};
        if (row >= s.dInner || kept > 3) return ahead;
        ahead.bias = s.convBias ? s.convBias[row] : 0.0f;
#pragma unroll
        for (int k = 0; k < 4; k++) {
          if (k < kept) ahead.past[k] = s.convIn[((i64)b * kept + k) * s.dInner + row];
          if (k <= kept) ahead.taps[k] = s.convWeight[(i64)row * (kept + 1) + k];
        }
        return ahead;
      },
      [&](int b, int row, float v, const ConvAhead& ahead) {
        if (s.inBias) v += s.inBias[row];
        if (row >= s.dInner) {
          s.z[b * s.dInner + row - s.dInner] = v;
          return;
        }
        float u;
        if (kept > 3) u = convolve(s, b, row, v);
        else {
          float sum = ahead.bias;
#pragma unroll
          for (int k = 0; k < 4; k++) {
            if (k <= kept) sum += ahead.taps[k] * (k == kept ? v : ahead.past[k < 3 ? k : 0]);
            if (k < kept) s.convOut[((i64)b * kept + k) * s.dInner + row] = k == kept - 1 ? v : ahead.past[k < 2 ? k + 1 : 0];
          }
          u = sum * sigmoid(sum);
        }
        s.u[b * s.dInner + row] = u;
        ((W*)s.uCast)[b * s.dInner + row] = narrow<W>(u);
      });
}
template <class W, int MT, int NT> __device__ void xProjectMany(const Step& s) {
  extern __shared__ float sums[];
  const int width = (int)(s.dtRank + 2 * s.dState);
  skinny<W, MT, NT, 6>((const W*)s.uCast, s.dInner, (const W*)s.xProj, (int)s.batch, width, (int)s.dInner, sums, [](int, int) {}, [](int, int) { return 0; },
           [&](int b, int row, float v, int) { s.dbc[(i64)b * width + row] = v; });
}
template <class W, int MT, int NT> __device__ void outProjectMany(const Step& s) {
  extern __shared__ float sums[];
  skinny<W, MT, NT, 6>((const W*)s.yCast, s.dInner, (const W*)s.outProj, (int)s.batch, (int)s.dModel, (int)s.dInner, sums,
      [&](int b, int row) {
        if (row % 8 == 0) prefetch(s.x + b * s.dModel + row);
        if (row % 8 == 0 && s.update) prefetch(s.update + b * s.dModel + row);
      },
      [&](int b, int row) { return streamAt(s, b * s.dModel + row) + (s.outBias ? s.outBias[row] : 0.0f); },
      [&](int b, int row, float v, float before) { s.out[b * s.dModel + row] = before + v; });
}

// A block of 256 a sequence. Beside cuBLASLt the stream itself goes to `out`, which out_proj is added to. RMS norms of rows of up to 4,096, in fours, hold
// the row in registers: nothing is read twice, and all at once. Where it PASSES, the next kernel may start at once; else it ends the chain.
constexpr int HELD = 4, NORM_THREADS = 256;
template <class W, bool PASSES> __device__ void stepNorm(const Step& s) {
  __shared__ float scratch[32];
  if (PASSES) letNext();
  const int width = (int)s.dModel;
  const i64 at = blockIdx.x * s.dModel;
  W* normed = (W*)s.normed + at;
  if (s.centred || s.normBias || width % 4 != 0 || width > 4 * HELD * NORM_THREADS) {
    awaitPrevious();
    if (!PASSES) letNext();
    normRow(s, blockIdx.x, scratch, [&](int j, float v) {
      normed[j] = narrow<W>(v);
      if (s.xz) s.out[at + j] = streamAt(s, at + j) + (s.outBias ? s.outBias[j] : 0.0f);
    });
    return;
  }
  float v[HELD][4], weight[HELD][4];
  loadRow<NORM_THREADS>(s.normWeight, threadIdx.x, width, weight);
  awaitPrevious();
  if (!PASSES) letNext();
  loadRow<NORM_THREADS>(s.x + at, threadIdx.x, width, v);
  if (s.update) addRow<NORM_THREADS>(s.update + at, threadIdx.x, width, v);
  const float scale = rowStatistics<NORM_THREADS>(v, threadIdx.x, width, (float)s.normEps, false, scratch).scale;
#pragma unroll
  for (int h = 0; h < HELD; h++) {
    const int j = 4 * (threadIdx.x + h * NORM_THREADS);
    if (j >= width) continue;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      normed[j + i] = narrow<W>(v[h][i] * scale * weight[h][i]);
      if (s.xz) s.out[at + j + i] = v[h][i] + (s.outBias ? s.outBias[j + i] : 0.0f);
    }
  }
}
template <class W> __device__ void stepConv(const Step& s) {
  awaitPrevious();
  const int c = blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= s.dInner) return;
  const i64 b = blockIdx.y, from = b * 2 * s.dInner + c;
  const float u = convolve(s, b, c, s.xz[from] + (s.inBias ? s.inBias[c] : 0.0f));
  s.u[b * s.dInner + c] = u;
  ((W*)s.uCast)[b * s.dInner + c] = narrow<W>(u);
  // The gate waits where it is.
  if (s.inBias) s.xz[from + s.dInner] += s.inBias[s.dInner + c];
}

#define ROWS(name, W)                                                                            \
  extern "C" __global__ void __launch_bounds__(256) step_norm_##name(Step s) { stepNorm<W, false>(s); } \
  extern "C" __global__ void __launch_bounds__(256) step_conv_##name(Step s) { stepConv<W>(s); }
ROWS(float32, float)
ROWS(bf16, bf16)
ROWS(f16, f16)

// 16 MT rows and 8 NT columns a block.
#define MANY(name, W)                                                                                                             \
  extern "C" __global__ void __launch_bounds__(256) step_norm_passing_##name(Step s) { stepNorm<W, true>(s); }                    \
  extern "C" __global__ void __launch_bounds__(256, 2) step_in_project_many_##name(Step s) { inProjectMany<W, 2, 4>(s); }         \
  extern "C" __global__ void __launch_bounds__(256, 2) step_x_project_many_##name(Step s) { xProjectMany<W, 1, 1>(s); }           \
  extern "C" __global__ void __launch_bounds__(256, 2) step_out_project_many_##name(Step s) { outProjectMany<W, 1, 2>(s); }
MANY(bf16, bf16)
MANY(f16, f16)
