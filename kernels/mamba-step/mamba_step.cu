// One residual Mamba block on one token a sequence. Few sequences: four kernels, each of which streams its weights once,
//   in_project   norm, in_proj, convolution with SiLU; the convolution's state moves on
//   x_project    dt, B and C
//   advance      their norms, dt_proj, softplus, the state moves on, D, gate
//   out_project  out_proj, added to the residual stream
// Many: step_norm, then the same with the products on the matrix units (common/skinny.cuh); or cuBLASLt's products with step_norm, step_conv and
// advance between them, where rows are no multiple of 32 or weights are float32. Weights are of type W, everything else float32.
// Bytes: the weights once; the states twice. Every sum has one order, whatever the batch is.

#include "../common/skinny.cuh"

struct Step {
  const float *x, *update, *normWeight, *normBias, *inBias, *convWeight, *convBias, *dtBias, *dtNorm, *bNorm, *cNorm, *A_log, *D, *outBias;
  const void *inProj, *xProj, *dtProj, *outProj;
  const float *convIn, *ssmIn;
  float *convOut, *ssmOut, *out;
  // Between the kernels: x_proj's input, gate [batch, dInner], dt B C [batch, dtRank + 2 dState], the scan's output [batch, dInner].
  float *u, *z, *dbc, *y;
  // The same in W for cuBLASLt, and the products of in_proj [batch, 2 dInner].
  void *normed, *uCast, *yCast;
  float* xz;
  i64 batch, dModel, dInner, dState, dConv, dtRank;
  double normEps, innerEps;
  i64 centred, innerNorm;  // 0 none, 1 without weights or with
};

__device__ __forceinline__ float streamAt(const Step& s, i64 i) { return s.x[i] + (s.update ? s.update[i] : 0.0f); }

// The norm of row b of the stream, element by element to `put`.
template <class F> __device__ __forceinline__ void normRow(const Step& s, i64 b, float* scratch, F put) {
  const int width = (int)s.dModel;
  float mean = 0, squares = 0;
  if (s.centred) {
    for (int j = threadIdx.x; j < width; j += blockDim.x) mean += streamAt(s, b * width + j);
    mean = blockSum(mean, scratch) / width;
  }
  for (int j = threadIdx.x; j < width; j += blockDim.x) {
    const float d = streamAt(s, b * width + j) - mean;
    squares += d * d;
  }
  const float scale = rsqrtf(blockSum(squares, scratch) / width + (float)s.normEps);
  for (int j = threadIdx.x; j < width; j += blockDim.x) {
    const float v = (streamAt(s, b * width + j) - mean) * scale * s.normWeight[j];
    put(j, s.normBias ? v + s.normBias[j] : v);
  }
}

// The convolution at one token of channel c, whose input is v; moves its state on.
__device__ __forceinline__ float convolve(const Step& s, i64 b, int c, float v) {
  const int kept = (int)s.dConv - 1;
  const i64 at = b * kept * s.dInner + c;
  const float* weight = s.convWeight + (i64)c * s.dConv;
  float sum = (s.convBias ? s.convBias[c] : 0.0f) + weight[kept] * v;
  for (int k = 0; k < kept; k++) {
    const float past = s.convIn[at + k * s.dInner];
    sum += weight[k] * past;
    // Behind the reading: the states may be the same memory.
    if (k > 0) s.convOut[at + (k - 1) * s.dInner] = past;
  }
  if (kept > 0) s.convOut[at + (kept - 1) * s.dInner] = v;
  return sum * sigmoid(sum);
}

// A warp a row of in_proj, B sequences a block: gridDim.y of them. Shared: [B][dModel].
template <class W, int B> __device__ void inProject(const Step& s) {
  extern __shared__ float normed[];
  __shared__ float scratch[32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, width = (int)s.dModel;
  const int row = blockIdx.x * (blockDim.x / 32) + warp;
  const bool isMine = row < 2 * s.dInner;
  RowProduct<W, B, 8> product;
  if (isMine) product.ahead((const W*)s.inProj + (i64)row * width, width, lane, 32);
  awaitPrevious();
  const i64 b0 = (i64)blockIdx.y * B;
  const int rows = (int)min((i64)B, s.batch - b0);
  for (int b = 0; b < rows; b++) normRow(s, b0 + b, scratch, [&](int j, float v) { normed[b * width + j] = v; });
  __syncthreads();
  if (!isMine) return;
  float sums[B];
  product.finish(normed, width, rows, sums);
  float own = 0;
#pragma unroll
  for (int b = 0; b < B; b++) {
    const float sum = warpSum(sums[b]);
    if (lane == b) own = sum;
  }
  if (lane >= rows) return;
  if (s.inBias) own += s.inBias[row];
  const i64 b = b0 + lane;
  if (row < s.dInner) s.u[b * s.dInner + row] = convolve(s, b, row, own);
  else s.z[b * s.dInner + row - s.dInner] = own;
}

// One sequence, rows of up to 32 PACKS 16-byte packs: a warp takes a channel's row of each half, and normalises the stream by itself, so that nothing
// waits for other warps. What the convolution needs is fetched ahead too: its state was written several kernels before.
template <class W, int PACKS> __device__ void inProjectOne(const Step& s) {
  constexpr int COUNT = Pack<W>::COUNT;
  const int lane = threadIdx.x % 32, width = (int)s.dModel;
  const int c = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (c >= s.dInner) return;
  const W* rows[2] = {(const W*)s.inProj + (i64)c * width, (const W*)s.inProj + (c + s.dInner) * width};
  Pack<W> weights[2][PACKS];
#pragma unroll
  for (int k = 0; k < PACKS; k++)
    if ((lane + 32 * k) * COUNT < width)
#pragma unroll
      for (int h = 0; h < 2; h++) weights[h][k] = fetch(rows[h] + (lane + 32 * k) * COUNT);
  const int kept = (int)s.dConv - 1;
  const bool isConv = lane < kept && kept <= 31;
  // Lane k holds the k-th of the past inputs and its weight.
  const float past = isConv ? s.convIn[(i64)lane * s.dInner + c] : 0.0f, tap = lane <= kept ? s.convWeight[c * s.dConv + lane] : 0.0f;
  const float convBias = s.convBias ? s.convBias[c] : 0.0f;
  // Longer rows leave no registers for it.
  constexpr bool IS_SHORT = PACKS <= 4;
  float4 norm[IS_SHORT ? PACKS : 1][COUNT / 4];
  if (IS_SHORT)
#pragma unroll
    for (int k = 0; k < PACKS; k++)
      if ((lane + 32 * k) * COUNT < width)
#pragma unroll
        for (int j = 0; j < COUNT / 4; j++) norm[IS_SHORT ? k : 0][j] = *(const float4*)(s.normWeight + (lane + 32 * k) * COUNT + 4 * j);
  awaitPrevious();
  float v[PACKS][COUNT], mean = 0, squares = 0;
#pragma unroll
  for (int k = 0; k < PACKS; k++)
    if ((lane + 32 * k) * COUNT < width)
#pragma unroll
      for (int j = 0; j < COUNT; j += 4) {
        const int at = (lane + 32 * k) * COUNT + j;
        float4 p = *(const float4*)(s.x + at);
        if (s.update) {
          const float4 more = *(const float4*)(s.update + at);
          p.x += more.x, p.y += more.y, p.z += more.z, p.w += more.w;
        }
        v[k][j] = p.x, v[k][j + 1] = p.y, v[k][j + 2] = p.z, v[k][j + 3] = p.w;
        mean += (p.x + p.y) + (p.z + p.w);
      }
  mean = s.centred ? warpSum(mean) / width : 0.0f;
#pragma unroll
  for (int k = 0; k < PACKS; k++)
    if ((lane + 32 * k) * COUNT < width)
#pragma unroll
      for (int j = 0; j < COUNT; j++) squares += (v[k][j] - mean) * (v[k][j] - mean);
  const float scale = rsqrtf(warpSum(squares) / width + (float)s.normEps);
  float sums[2] = {};
#pragma unroll
  for (int k = 0; k < PACKS; k++)
    if ((lane + 32 * k) * COUNT < width)
#pragma unroll
      for (int j = 0; j < COUNT / 4; j++) {
        const int at = (lane + 32 * k) * COUNT + 4 * j;
        const float4 own = IS_SHORT ? norm[IS_SHORT ? k : 0][j] : *(const float4*)(s.normWeight + at);
        const float factors[4] = {own.x, own.y, own.z, own.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const float n = (v[k][4 * j + i] - mean) * scale * factors[i] + (s.normBias ? s.normBias[at + i] : 0.0f);
          sums[0] += widen(weights[0][k].values[4 * j + i]) * n;
          sums[1] += widen(weights[1][k].values[4 * j + i]) * n;
        }
      }
  const float x = warpSum(sums[0]) + (s.inBias ? s.inBias[c] : 0.0f), z = warpSum(sums[1]) + (s.inBias ? s.inBias[c + s.dInner] : 0.0f);
  const float next = __shfl_down_sync(~0u, past, 1);
  if (isConv) s.convOut[(i64)lane * s.dInner + c] = lane == kept - 1 ? x : next;
  const float sum = warpSum(lane <= kept ? tap * (lane == kept ? x : past) : 0.0f) + convBias;
  if (lane == 0) s.u[c] = sum * sigmoid(sum);
  else if (lane == 1) s.z[c] = z;
}

// A block of 4 warps a row of x_proj.
template <class W, int B> __device__ void xProject(const Step& s) {
  __shared__ float parts[4][B];
  const int row = blockIdx.x, warp = threadIdx.x / 32, width = (int)s.dInner;
  RowProduct<W, B, 4> product;
  product.ahead((const W*)s.xProj + (i64)row * width, width, threadIdx.x, 128);
  awaitPrevious();
  const i64 b0 = (i64)blockIdx.y * B;
  const int rows = (int)min((i64)B, s.batch - b0);
  float sums[B];
  product.finish(s.u + b0 * width, width, rows, sums);
#pragma unroll
  for (int b = 0; b < B; b++) {
    const float sum = warpSum(sums[b]);
    if (threadIdx.x % 32 == 0) parts[warp][b] = sum;
  }
  __syncthreads();
  if (threadIdx.x < rows)
    s.dbc[(b0 + threadIdx.x) * gridDim.x + row] =
        (parts[0][threadIdx.x] + parts[1][threadIdx.x]) + (parts[2][threadIdx.x] + parts[3][threadIdx.x]);
}

// A warp a row of out_proj.
template <class W, int B> __device__ void outProject(const Step& s) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, width = (int)s.dInner;
  const int row = blockIdx.x * (blockDim.x / 32) + warp;
  if (row >= s.dModel) return;
  RowProduct<W, B, 16> product;
  product.ahead((const W*)s.outProj + (i64)row * width, width, lane, 32);
  const i64 b0 = (i64)blockIdx.y * B;
  const int rows = (int)min((i64)B, s.batch - b0);
  // The stream was written before this block's first kernel.
  const i64 at = (b0 + lane) * s.dModel + row;
  const float before = lane < rows ? streamAt(s, at) + (s.outBias ? s.outBias[row] : 0.0f) : 0.0f;
  awaitPrevious();
  float sums[B];
  product.finish(s.y + b0 * width, width, rows, sums);
  float own = 0;
#pragma unroll
  for (int b = 0; b < B; b++) {
    const float sum = warpSum(sums[b]);
    if (lane == b) own = sum;
  }
  if (lane < rows) s.out[at] = before + own;
}

// G lanes a channel, STATES each; 256 / G channels and ROWS sequences a block. Shared: [ROWS][dtRank + 2 dState]. The states are fetched ahead: they
// were written several kernels before.
constexpr int MOST_RANK = 8;
// All sequences of a block go through each step together, so that their sums over lanes overlap. Those beyond the last repeat it and are not stored.
template <class W, int G, int STATES, int ROWS>
__device__ __forceinline__ void finishRows(const Step& s, const float* parts, i64 b0, int rows, int channel, bool isMine, int lane, const float (&A)[STATES],
                                           const float (&weights)[MOST_RANK], const float (&h)[ROWS][STATES], const float (&u)[ROWS],
                                           const float (&gate)[ROWS], float bias, float skip, const W* dtRow) {
  const int N = (int)s.dState, rank = (int)s.dtRank, width = rank + 2 * N;
  float delta[ROWS], y[ROWS];
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    const float* dt = parts + min(r, rows - 1) * width;
    delta[r] = 0;
#pragma unroll
    for (int k = 0; k < MOST_RANK; k++)
      if (lane + k * G < rank) delta[r] += weights[k] * dt[lane + k * G];
    for (int k = lane + MOST_RANK * G; k < rank; k += G) delta[r] += widen(dtRow[k]) * dt[k];
  }
#pragma unroll
  for (int step = G / 2; step > 0; step >>= 1)
#pragma unroll
    for (int r = 0; r < ROWS; r++) delta[r] += __shfl_xor_sync(~0u, delta[r], step);
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    const float *B = parts + min(r, rows - 1) * width + rank, *C = B + N;
    delta[r] = softplus(delta[r] + bias);
    const float step = delta[r] * u[r];
    y[r] = 0;
#pragma unroll
    for (int k = 0; k < STATES; k++)
      if (lane + k * G < N) {
        const float next = expf(delta[r] * A[k]) * h[r][k] + step * B[lane + k * G];
        y[r] += next * C[lane + k * G];
        if (isMine && r < rows) s.ssmOut[((b0 + r) * s.dInner + channel) * N + lane + k * G] = next;
      }
  }
#pragma unroll
  for (int step = G / 2; step > 0; step >>= 1)
#pragma unroll
    for (int r = 0; r < ROWS; r++) y[r] += __shfl_xor_sync(~0u, y[r], step);
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    const i64 one = (b0 + r) * s.dInner + channel;
    const float out = (y[r] + skip * u[r]) * gate[r] * sigmoid(gate[r]);
    if (lane != 0 || !isMine || r >= rows) continue;
    if (s.yCast) ((W*)s.yCast)[one] = narrow<W>(out);
    else s.y[one] = out;
  }
}
// The norms of dt, B and C in parts [rows][dtRank + 2 dState], where a model has them: a warp a part of a row.
__device__ __forceinline__ void normParts(const Step& s, float* parts, int rows) {
  if (!s.innerNorm) return;
  const int N = (int)s.dState, rank = (int)s.dtRank, width = rank + 2 * N;
  for (int job = threadIdx.x / 32; job < 3 * rows; job += blockDim.x / 32) {
    const int which = job % 3, from = which == 0 ? 0 : which == 1 ? rank : rank + N, size = which == 0 ? rank : N;
    float* part = parts + job / 3 * width + from;
    const float* weight = which == 0 ? s.dtNorm : which == 1 ? s.bNorm : s.cNorm;
    float squares = 0;
    for (int i = threadIdx.x % 32; i < size; i += 32) squares += part[i] * part[i];
    const float scale = rsqrtf(warpSum(squares) / size + (float)s.innerEps);
    for (int i = threadIdx.x % 32; i < size; i += 32) part[i] *= weight ? scale * weight[i] : scale;
  }
  __syncthreads();
}
template <class W, int G, int STATES, int ROWS> __device__ void advance(const Step& s) {
  extern __shared__ float parts[];
  const int lane = threadIdx.x % G, N = (int)s.dState, rank = (int)s.dtRank, width = rank + 2 * N;
  const int c = blockIdx.x * (256 / G) + threadIdx.x / G;
  const bool isMine = c < s.dInner;
  // Lanes without a channel go along with another: they take part in the sums.
  const int channel = isMine ? c : 0;
  const i64 b0 = (i64)blockIdx.y * ROWS;
  const int rows = (int)min((i64)ROWS, s.batch - b0);
  float A[STATES], weights[MOST_RANK], h[ROWS][STATES], u[ROWS], gate[ROWS];
  const W* dtRow = (const W*)s.dtProj + (i64)channel * rank;
#pragma unroll
  for (int k = 0; k < STATES; k++) A[k] = lane + k * G < N ? -expf(s.A_log[(i64)channel * N + lane + k * G]) : 0.0f;
#pragma unroll
  for (int k = 0; k < MOST_RANK; k++) weights[k] = lane + k * G < rank ? widen(dtRow[lane + k * G]) : 0.0f;
  const float bias = s.dtBias[channel], skip = s.D[channel];
#pragma unroll
  for (int r = 0; r < ROWS; r++)
#pragma unroll
    for (int k = 0; k < STATES; k++)
      h[r][k] = r < rows && lane + k * G < N ? s.ssmIn[((b0 + r) * s.dInner + channel) * N + lane + k * G] : 0.0f;
  awaitPrevious();
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    const i64 b = b0 + min(r, rows - 1), one = b * s.dInner + channel;
    u[r] = s.u[one];
    gate[r] = s.z ? s.z[one] : s.xz[b * 2 * s.dInner + s.dInner + channel];
  }
  for (int i = threadIdx.x; i < rows * width; i += blockDim.x) parts[i] = s.dbc[b0 * width + i];
  __syncthreads();
  normParts(s, parts, rows);
  finishRows<W, G, STATES, ROWS>(s, parts, b0, rows, channel, isMine, lane, A, weights, h, u, gate, bias, skip, dtRow);
}

// Many sequences, rows that are multiples of 32.
struct ConvAhead {
  float past[3], taps[4], bias;
};
template <class W, int MT, int NT> __device__ void inProjectMany(const Step& s) {
  extern __shared__ float sums[];
  const int kept = (int)s.dConv - 1;
  skinny<W, MT, NT, 2>(
      (const W*)s.normed, s.dModel, (const W*)s.inProj, (int)s.batch, (int)(2 * s.dInner), (int)s.dModel, sums,
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
  skinny<W, MT, NT, 3>((const W*)s.uCast, s.dInner, (const W*)s.xProj, (int)s.batch, width, (int)s.dInner, sums, [](int, int) { return 0; },
                       [&](int b, int row, float v, int) { s.dbc[(i64)b * width + row] = v; });
}
template <class W, int MT, int NT> __device__ void outProjectMany(const Step& s) {
  extern __shared__ float sums[];
  skinny<W, MT, NT, 3>((const W*)s.yCast, s.dInner, (const W*)s.outProj, (int)s.batch, (int)s.dModel, (int)s.dInner, sums,
                       [&](int b, int row) { return streamAt(s, b * s.dModel + row) + (s.outBias ? s.outBias[row] : 0.0f); },
                       [&](int b, int row, float v, float before) { s.out[b * s.dModel + row] = before + v; });
}

// A block a sequence. Beside cuBLASLt the stream itself goes to `out`, which out_proj is added to.
template <class W> __device__ void stepNorm(const Step& s) {
  __shared__ float scratch[32];
  awaitPrevious();
  const i64 at = blockIdx.x * s.dModel;
  normRow(s, blockIdx.x, scratch, [&](int j, float v) {
    ((W*)s.normed)[at + j] = narrow<W>(v);
    if (s.xz) s.out[at + j] = streamAt(s, at + j) + (s.outBias ? s.outBias[j] : 0.0f);
  });
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

#define FEW(name, W, B)                                                                                                     \
  extern "C" __global__ void __launch_bounds__(256) step_in_project_##B##_##name(Step s) { inProject<W, B>(s); }            \
  extern "C" __global__ void __launch_bounds__(128) step_x_project_##B##_##name(Step s) { xProject<W, B>(s); }              \
  extern "C" __global__ void __launch_bounds__(128) step_out_project_##B##_##name(Step s) { outProject<W, B>(s); }
#define ADVANCE(name, W, G, STATES, ROWS)                                                               \
  extern "C" __global__ void __launch_bounds__(256) step_advance_##G##_##STATES##_##ROWS##_##name(Step s) { \
    advance<W, G, STATES, ROWS>(s);                                                                     \
  }
#define ONE(name, W, PACKS) \
  extern "C" __global__ void __launch_bounds__(128) step_in_project_one_##PACKS##_##name(Step s) { inProjectOne<W, PACKS>(s); }
#define KERNELS(name, W)                                                             \
  FEW(name, W, 1)                                                                    \
  FEW(name, W, 4)                                                                    \
  ONE(name, W, 4)                                                                    \
  ONE(name, W, 8)                                                                    \
  ADVANCE(name, W, 4, 2, 1)                                                          \
  ADVANCE(name, W, 16, 1, 1)                                                         \
  ADVANCE(name, W, 16, 1, 8)                                                         \
  ADVANCE(name, W, 16, 8, 1)                                                         \
  ADVANCE(name, W, 32, 8, 1)                                                         \
  extern "C" __global__ void __launch_bounds__(256) step_norm_##name(Step s) { stepNorm<W>(s); } \
  extern "C" __global__ void __launch_bounds__(256) step_conv_##name(Step s) { stepConv<W>(s); }
KERNELS(float32, float)
KERNELS(bf16, bf16)
KERNELS(f16, f16)

#define MANY(name, W)                                                                                                             \
  extern "C" __global__ void __launch_bounds__(256, 2) step_in_project_many_##name(Step s) { inProjectMany<W, 2, 4>(s); }         \
  extern "C" __global__ void __launch_bounds__(256, 2) step_x_project_many_##name(Step s) { xProjectMany<W, 1, 1>(s); }           \
  extern "C" __global__ void __launch_bounds__(256, 2) step_out_project_many_##name(Step s) { outProjectMany<W, 2, 2>(s); }
MANY(bf16, bf16)
MANY(f16, f16)
