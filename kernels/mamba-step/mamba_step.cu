// One residual Mamba block on one token a sequence. Few sequences: four kernels, each of which streams its weights once,
//   in_project   norm, in_proj, convolution with SiLU; the convolution's state moves on
//   x_project    dt, B and C
//   advance      their norms, dt_proj, softplus, the state moves on, D, gate
//   out_project  out_proj, added to the residual stream
// Many: the products are cuBLASLt's, with step_norm, step_conv and advance between them. Weights are of type W, everything else float32.
// Bytes: the weights once; the states twice. Every sum has one order, whatever the batch is.
#include "../common/step.cuh"

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
  awaitPrevious();
  const i64 b0 = (i64)blockIdx.y * B;
  const int rows = (int)min((i64)B, s.batch - b0);
  float sums[B];
  product.finish(s.y + b0 * width, width, rows, sums);
  float own = 0;
#pragma unroll
  for (int b = 0; b < B; b++) {
    const float sum = warpSum(sums[b]);
    if (lane == b) own = sum;
  }
  if (lane >= rows) return;
  const i64 at = (b0 + lane) * s.dModel + row;
  s.out[at] = streamAt(s, at) + own + (s.outBias ? s.outBias[row] : 0.0f);
}

// G lanes a channel, states spread over them; 256 / G channels a block, ROWS sequences one after the other. Shared: [ROWS][dtRank + 2 dState].
constexpr int ROWS = 8, MOST_STATES = 8, MOST_RANK = 16;
template <class W, int G> __device__ void advance(const Step& s) {
  extern __shared__ float parts[];
  const int lane = threadIdx.x % G, N = (int)s.dState, rank = (int)s.dtRank, width = rank + 2 * N;
  const int c = blockIdx.x * (256 / G) + threadIdx.x / G;
  const bool isMine = c < s.dInner;
  float A[MOST_STATES], weights[MOST_RANK];
  const W* dtRow = (const W*)s.dtProj + (i64)c * rank;
#pragma unroll
  for (int k = 0; k < MOST_STATES; k++) A[k] = isMine && lane + k * G < N ? -expf(s.A_log[(i64)c * N + lane + k * G]) : 0.0f;
#pragma unroll
  for (int k = 0; k < MOST_RANK; k++) weights[k] = isMine && lane + k * G < rank ? widen(dtRow[lane + k * G]) : 0.0f;
  const float bias = isMine ? s.dtBias[c] : 0.0f, skip = isMine ? s.D[c] : 0.0f;
  awaitPrevious();
  const i64 b0 = (i64)blockIdx.y * ROWS;
  const int rows = (int)min((i64)ROWS, s.batch - b0);
  for (int i = threadIdx.x; i < rows * width; i += blockDim.x) parts[i] = s.dbc[b0 * width + i];
  __syncthreads();
  if (s.innerNorm) {
    // A warp a part of a row.
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
  // Lanes without a channel go along: they take part in the sums.
  const int channel = isMine ? c : 0;
  for (int r = 0; r < rows; r++) {
    const float *dt = parts + r * width, *B = dt + rank, *C = B + N;
    const i64 b = b0 + r, at = (b * s.dInner + channel) * N, one = b * s.dInner + channel;
    float h[MOST_STATES];
#pragma unroll
    for (int k = 0; k < MOST_STATES; k++) h[k] = lane + k * G < N ? s.ssmIn[at + lane + k * G] : 0.0f;
    const float u = s.u[one], gate = s.z ? s.z[one] : s.xz[b * 2 * s.dInner + s.dInner + channel];
    float sum = 0;
#pragma unroll
    for (int k = 0; k < MOST_RANK; k++)
      if (lane + k * G < rank) sum += weights[k] * dt[lane + k * G];
    for (int k = lane + MOST_RANK * G; k < rank; k += G) sum += widen(dtRow[isMine ? k : k - c * rank]) * dt[k];
    const float delta = softplus(warpSum(sum, G) + bias), step = delta * u;
    float y = 0;
#pragma unroll
    for (int k = 0; k < MOST_STATES; k++)
      if (lane + k * G < N) {
        h[k] = expf(delta * A[k]) * h[k] + step * B[lane + k * G];
        y += h[k] * C[lane + k * G];
        if (isMine) s.ssmOut[at + lane + k * G] = h[k];
      }
    y = (warpSum(y, G) + skip * u) * gate * sigmoid(gate);
    if (lane == 0 && isMine) {
      if (s.yCast) ((W*)s.yCast)[one] = narrow<W>(y);
      else s.y[one] = y;
    }
  }
}

// Beside cuBLASLt: a block a sequence. The stream itself goes to `out`, which out_proj is added to.
template <class W> __device__ void stepNorm(const Step& s) {
  __shared__ float scratch[32];
  awaitPrevious();
  const i64 at = blockIdx.x * s.dModel;
  normRow(s, blockIdx.x, scratch, [&](int j, float v) {
    ((W*)s.normed)[at + j] = narrow<W>(v);
    s.out[at + j] = streamAt(s, at + j) + (s.outBias ? s.outBias[j] : 0.0f);
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
#define ADVANCE(name, W, G) \
  extern "C" __global__ void __launch_bounds__(256) step_advance_##G##_##name(Step s) { advance<W, G>(s); }
#define KERNELS(name, W)                                                             \
  FEW(name, W, 1)                                                                    \
  FEW(name, W, 4)                                                                    \
  ADVANCE(name, W, 4)                                                                \
  ADVANCE(name, W, 16)                                                               \
  ADVANCE(name, W, 32)                                                               \
  extern "C" __global__ void __launch_bounds__(256) step_norm_##name(Step s) { stepNorm<W>(s); } \
  extern "C" __global__ void __launch_bounds__(256) step_conv_##name(Step s) { stepConv<W>(s); }
KERNELS(float32, float)
KERNELS(bf16, bf16)
KERNELS(f16, f16)
