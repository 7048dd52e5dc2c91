// One residual Mamba block on one token a sequence. Few sequences: four kernels, each of which streams its weights once,
//   in_project   norm, in_proj, convolution with SiLU; the convolution's state moves on
//   x_project    dt, B and C
//   advance      their norms, dt_proj, softplus, the state moves on, D, gate
//   out_project  out_proj, added to the residual stream
// Many: step_norm, then the same with the products on the matrix units (common/skinny.cuh); or cuBLASLt's products with step_norm, step_conv and
// advance between them, where rows are no multiple of 32 or weights are float32. Weights are of type W, everything else float32.
// Bytes: the weights once; the states twice. Every sum has one order, whatever the batch is.

#include "mamba_step.cuh"

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
  letNext();
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

// One sequence and an RMS norm, rows of up to 32 PACKS 16-byte packs: a warp takes a channel's row of each half, and normalises the stream by itself, so
// that nothing waits for other warps. The norm's scale comes last: its sum is on the way beside the products'.
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
  const float tap = lane <= kept ? s.convWeight[c * s.dConv + lane] : 0.0f, convBias = s.convBias ? s.convBias[c] : 0.0f;
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
  letNext();
  // Lane k holds the k-th of the past inputs and its weight. The kernel before may be the one that wrote them.
  const bool isConv = lane < kept && kept <= 31;
  const float past = isConv ? s.convIn[(i64)lane * s.dInner + c] : 0.0f;
  float squares[4] = {}, sums[2][4] = {};
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
        const float4 own = IS_SHORT ? norm[IS_SHORT ? k : 0][j / 4] : *(const float4*)(s.normWeight + at);
        const float v[4] = {p.x, p.y, p.z, p.w}, factors[4] = {own.x, own.y, own.z, own.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const float n = v[i] * factors[i];
          squares[i] += v[i] * v[i];
#pragma unroll
          for (int h = 0; h < 2; h++) sums[h][i] += widen(weights[h][k].values[j + i]) * n;
        }
      }
  const float scale = rsqrtf(warpSum((squares[0] + squares[1]) + (squares[2] + squares[3])) / width + (float)s.normEps);
  float both[2];
#pragma unroll
  for (int h = 0; h < 2; h++) {
    both[h] = scale * warpSum((sums[h][0] + sums[h][1]) + (sums[h][2] + sums[h][3]));
    if (s.inBias) both[h] += s.inBias[c + h * s.dInner];
  }
  const float x = both[0], z = both[1];
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
  letNext();
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
  letNext();
  RowProduct<W, B, 16> product;
  product.ahead((const W*)s.outProj + (i64)row * width, width, lane, 32);
  const i64 b0 = (i64)blockIdx.y * B;
  const int rows = (int)min((i64)B, s.batch - b0);
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
// were written before this step's first kernel let the next one start.
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
template <class W, int G, int STATES, int ROWS> __device__ void advance(const Step& s) {
  extern __shared__ float parts[];
  letNext();
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
  normParts(s, parts, rows, width);
  finishRows<W, G, STATES, ROWS>(s, parts, b0, rows, channel, isMine, lane, A, weights, h, u, gate, bias, skip, dtRow);
}

// Up to 16 states, a multiple of 4, many sequences and weights in float32 (others: mamba_step_states.cu): 4 lanes a channel with 4 states each, 64
// channels and 4 sequences a block. Lane q does what a channel needs once a sequence, delta and the gate, for sequence q. Shared: [4][dtRank + 2 dState].
constexpr int MOST_QUADS = 8;
extern "C" __global__ void __launch_bounds__(256, 3) step_advance_quads_float32(Step s) {
  extern __shared__ float parts[];
  letNext();
  const int q = threadIdx.x % 4, N = (int)s.dState, rank = (int)s.dtRank, width = rank + 2 * N, from = 4 * q;
  const int c = blockIdx.x * 64 + threadIdx.x / 4;
  const bool isMine = c < s.dInner, hasStates = from < N;
  // Lanes without a channel go along with another: they take part in the sums.
  const int channel = isMine ? c : 0;
  const i64 b0 = (i64)blockIdx.y * 4;
  const int rows = (int)min((i64)4, s.batch - b0);
  const float* dtRow = (const float*)s.dtProj + (i64)channel * rank;
  float4 weights[MOST_QUADS];
#pragma unroll
  for (int k = 0; k < MOST_QUADS; k++)
    if (4 * (q + 4 * k) < rank) weights[k] = *(const float4*)(dtRow + 4 * (q + 4 * k));
  float4 h[4], A = make_float4(0, 0, 0, 0);
  if (hasStates) A = *(const float4*)(s.A_log + (i64)channel * N + from);
  const float bias = s.dtBias[channel], skip = s.D[channel];
#pragma unroll
  for (int r = 0; r < 4; r++)
    h[r] = r < rows && hasStates ? *(const float4*)(s.ssmIn + ((b0 + r) * s.dInner + channel) * N + from) : make_float4(0, 0, 0, 0);
  constexpr float LOG2E = 1.4426950408889634f;
  const float a[4] = {-LOG2E * expf(A.x), -LOG2E * expf(A.y), -LOG2E * expf(A.z), -LOG2E * expf(A.w)};
  awaitPrevious();
  const i64 own = b0 + min(q, rows - 1), one = own * s.dInner + channel;
  const float u = s.u[one], gate = s.z ? s.z[one] : s.xz[own * 2 * s.dInner + s.dInner + channel];
  for (int i = threadIdx.x; i < rows * width; i += blockDim.x) parts[i] = s.dbc[b0 * width + i];
  __syncthreads();
  normParts(s, parts, rows, width);
  float sums[4];
#pragma unroll
  for (int r = 0; r < 4; r++) {
    const float* dt = parts + min(r, rows - 1) * width;
    sums[r] = 0;
#pragma unroll
    for (int k = 0; k < MOST_QUADS; k++)
      if (4 * (q + 4 * k) < rank) {
        const float4 d = *(const float4*)(dt + 4 * (q + 4 * k));
        const float4 w = weights[k];
        sums[r] += (w.x * d.x + w.y * d.y) + (w.z * d.z + w.w * d.w);
      }
  }
  const float ownDelta = softplus(sumOfOwn(sums, q) + bias), ownStep = ownDelta * u;
  const int first = threadIdx.x % 32 - q;
#pragma unroll
  for (int r = 0; r < 4; r++) {
    const float delta = __shfl_sync(~0u, ownDelta, first + r), step = __shfl_sync(~0u, ownStep, first + r);
    const float* B = parts + min(r, rows - 1) * width + rank + (hasStates ? from : 0);
    const float4 b = *(const float4*)B, c4 = *(const float4*)(B + N);
    float4 next;
    next.x = exp2f(delta * a[0]) * h[r].x + step * b.x;
    next.y = exp2f(delta * a[1]) * h[r].y + step * b.y;
    next.z = exp2f(delta * a[2]) * h[r].z + step * b.z;
    next.w = exp2f(delta * a[3]) * h[r].w + step * b.w;
    sums[r] = hasStates ? (next.x * c4.x + next.y * c4.y) + (next.z * c4.z + next.w * c4.w) : 0.0f;
    if (isMine && hasStates && r < rows) *(float4*)(s.ssmOut + ((b0 + r) * s.dInner + channel) * N + from) = next;
  }
  const float out = (sumOfOwn(sums, q) + skip * u) * gate * sigmoid(gate);
  if (!isMine || q >= rows) return;
  (s.yCast ? (float*)s.yCast : s.y)[one] = out;
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
  extern "C" __global__ void __launch_bounds__(128, 5) step_in_project_one_##PACKS##_##name(Step s) { inProjectOne<W, PACKS>(s); }
#define KERNELS(name, W)                                                             \
  FEW(name, W, 1)                                                                    \
  FEW(name, W, 4)                                                                    \
  ONE(name, W, 4)                                                                    \
  ONE(name, W, 8)                                                                    \
  ADVANCE(name, W, 4, 2, 1)                                                          \
  ADVANCE(name, W, 16, 1, 1)                                                         \
  ADVANCE(name, W, 16, 1, 8)                                                         \
  ADVANCE(name, W, 16, 8, 1)                                                         \
  ADVANCE(name, W, 32, 8, 1)
KERNELS(float32, float)
KERNELS(bf16, bf16)
KERNELS(f16, f16)
