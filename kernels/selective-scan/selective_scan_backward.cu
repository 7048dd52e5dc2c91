// The selective scan, backward (README.md beside this). A block walks its tokens from the last tile to the first. In each tile it computes the states
// again from the one that the forward pass kept, then runs the adjoint recurrence. Gradients of B and C are summed over the channels of a block by
// shuffles that halve what they carry, so that one number a lane is left; blocks are joined in a fixed order afterwards.
#include "selective_scan.cuh"

namespace {

template <int LANES, int NPL> struct Backward {
  static constexpr int THREADS = THREADS_OF<LANES>, CHANNELS = THREADS / LANES, STATES = LANES * NPL, TOKENS = CHECKPOINT_OF<STATES>, WARPS = THREADS / 32;
  static constexpr int EACH = (TOKENS * CHANNELS + THREADS - 1) / THREADS, EACH_BC = (TOKENS * STATES + THREADS - 1) / THREADS;
  alignas(16) float h[TOKENS][THREADS][NPL];
  float dt[TOKENS][CHANNELS], x[TOKENS][CHANNELS], gy[TOKENS][CHANNELS], y[TOKENS][CHANNELS];
  float gDu[TOKENS][CHANNELS], gStep[TOKENS][CHANNELS];
  alignas(16) float B[TOKENS][STATES], C[TOKENS][STATES];
  float gBC[WARPS][TOKENS][2 * STATES];
  int mark[TOKENS];
};

template <class T, int LANES, int NPL> __device__ void backward(const Scan& s) {
  using Tile = Backward<LANES, NPL>;
  constexpr int THREADS = Tile::THREADS, CHANNELS = Tile::CHANNELS, STATES = Tile::STATES, TOKENS = Tile::TOKENS, EACH = Tile::EACH, EACH_BC = Tile::EACH_BC;
  extern __shared__ float4 room[];
  Tile& tile = *reinterpret_cast<Tile*>(room);
  const Place p = placeOf<LANES>(s);
  const T *__restrict__ x = (const T*)s.x, *__restrict__ delta = (const T*)s.delta, *__restrict__ z = (const T*)s.z;
  const T *__restrict__ B = (const T*)s.B, *__restrict__ C = (const T*)s.C, *__restrict__ g = (const T*)s.gy;
  T *__restrict__ gx = (T*)s.gx, *__restrict__ gDelta = (T*)s.gDelta, *__restrict__ gz = (T*)s.gz;
  const i64 row0 = p.batch * s.length, from = p.chunk * s.chunkLength, to = min(s.length, from + s.chunkLength);
  const i64 stateAt = (p.batch * s.dInner + p.channel) * s.dState, part = p.batch * s.chunks + p.chunk;

  float a[NPL], gh[NPL], gA[NPL];
#pragma unroll
  for (int j = 0; j < NPL; j++) {
    const int n = p.lane * NPL + j;
    const bool real = p.active && n < s.dState;
    a[j] = real ? s.A[p.channel * s.dState + n] * LOG2E : 0.f;
    gA[j] = 0.f;
    gh[j] = real ? chunkStart<true>(s, s.gFinal, p.batch, p.chunk, p.channel, n, a[j]) : 0.f;
  }
  const int column = threadIdx.x % CHANNELS;
  const i64 staged = p.firstChannel + column;
  const bool isStaged = staged < p.endChannel;
  const float bias = isStaged && s.bias ? s.bias[staged] : 0.f, D = isStaged && s.D ? s.D[staged] : 0.f;
  float gD = 0.f, gBias = 0.f;

  T nextX[EACH], nextDelta[EACH], nextZ[EACH], nextG[EACH], nextB[EACH_BC], nextC[EACH_BC];
  float kept[NPL];
  // Addresses are kept and moved on, as in the forward pass; they start at the last tile and move back.
  constexpr int ROWS = THREADS / CHANNELS, ROWS_BC = THREADS / STATES > 0 ? THREADS / STATES : 1;
  const i64 lastTile = from + (to - from - 1) / TOKENS * TOKENS;
  const i64 firstRow = row0 + lastTile + threadIdx.x / CHANNELS;
  const int stateOf = threadIdx.x % STATES, tokenOf = threadIdx.x / STATES;
  x += firstRow * s.xStride + staged;
  delta += firstRow * s.deltaStride + staged;
  if (z) z += firstRow * s.zStride + staged;
  if (g) g += firstRow * s.dInner + staged;
  gx += firstRow * s.dInner + staged;
  gDelta += firstRow * s.dInner + staged;
  if (gz) gz += firstRow * s.dInner + staged;
  B += (row0 + lastTile + tokenOf) * s.BStride + p.group * s.dState + stateOf;
  C += (row0 + lastTile + tokenOf) * s.CStride + p.group * s.dState + stateOf;
  const float* start = s.saved + ((p.batch * s.checkpoints + lastTile / TOKENS) * s.dInner + p.channel) * s.dState + p.lane * NPL;
  const T none = narrow<T>(0.f);
  const auto fetch = [&](int left) {
#pragma unroll
    for (int e = 0; e < EACH; e++) {
      const bool there = isStaged && (int)(threadIdx.x / CHANNELS) + e * ROWS < left;
      nextX[e] = there ? x[e * ROWS * s.xStride] : none;
      nextDelta[e] = there ? delta[e * ROWS * s.deltaStride] : none;
      nextG[e] = there && g ? g[e * ROWS * s.dInner] : none;
      nextZ[e] = there && z ? z[e * ROWS * s.zStride] : none;
    }
    x -= TOKENS * s.xStride;
    delta -= TOKENS * s.deltaStride;
    if (z) z -= TOKENS * s.zStride;
    if (g) g -= TOKENS * s.dInner;
#pragma unroll
    for (int e = 0; e < EACH_BC; e++) {
      const int k = STATES <= THREADS ? tokenOf + e * ROWS_BC : e / (STATES / THREADS > 0 ? STATES / THREADS : 1);
      const int skip = STATES <= THREADS ? 0 : e % (STATES / THREADS > 0 ? STATES / THREADS : 1) * THREADS;
      const bool there = k < min(left, TOKENS) && stateOf + skip < s.dState;
      const i64 row = STATES <= THREADS ? e * ROWS_BC : k;
      nextB[e] = there ? B[row * s.BStride + skip] : none;
      nextC[e] = there ? C[row * s.CStride + skip] : none;
    }
    B -= TOKENS * s.BStride;
    C -= TOKENS * s.CStride;
#pragma unroll
    for (int j = 0; j < NPL; j++) kept[j] = p.active && p.lane * NPL + j < s.dState ? start[j] : 0.f;
    start -= s.dInner * s.dState;
  };
  fetch((int)(to - lastTile));
  for (i64 t0 = lastTile; t0 >= from; t0 -= TOKENS) {
    __syncthreads();
    bool anyResets = false;
    if (s.marks) {
      const int mark = threadIdx.x < TOKENS && t0 + threadIdx.x < to ? s.marks[row0 + t0 + threadIdx.x] : -1;
      if (threadIdx.x < TOKENS) tile.mark[threadIdx.x] = mark;
      anyResets = __syncthreads_or(mark > 0);
    }
    float slope[EACH], gate[EACH], up[EACH];  // of softplus; z; what comes from above
#pragma unroll
    for (int e = 0; e < EACH; e++) {
      const int k = threadIdx.x / CHANNELS + e * (THREADS / CHANNELS);
      if (k >= TOKENS) continue;
      const bool there = isStaged && t0 + k < to && !(s.marks && tile.mark[k] < 0);
      const float raw = there ? widen(nextDelta[e]) + bias : 0.f;
      const float dt = there ? (s.softplus ? softplusOf<T>(raw) : raw) : 0.f;
      slope[e] = s.softplus && raw <= 20.f ? sigmoidOf(raw) : 1.f;
      up[e] = there ? widen(nextG[e]) : 0.f;
      gate[e] = there ? widen(nextZ[e]) : 0.f;
      tile.dt[k][column] = dt;
      tile.x[k][column] = there ? widen(nextX[e]) : 0.f;
      tile.gy[k][column] = z ? up[e] * gate[e] * sigmoidOf(gate[e]) : up[e];
    }
#pragma unroll
    for (int e = 0; e < EACH_BC; e++) {
      const int i = threadIdx.x + e * THREADS, k = i / STATES, n = i % STATES;
      if (i >= TOKENS * STATES) continue;
      const bool there = !(s.marks && tile.mark[k] < 0);
      tile.B[k][n] = there ? widen(nextB[e]) : 0.f;
      tile.C[k][n] = there ? widen(nextC[e]) : 0.f;
    }
    float h[NPL], before[NPL];
#pragma unroll
    for (int j = 0; j < NPL; j++) before[j] = h[j] = kept[j];
    __syncthreads();
    if (t0 > from) fetch(TOKENS);

    const auto walk = [&](auto resets) {
      // The states of the tile, from the one before it.
#pragma unroll 1
      for (int k0 = 0; k0 < TOKENS; k0 += 4) {
        float sums[4];
#pragma unroll
        for (int u = 0; u < 4; u++) {
          const int k = k0 + u;
          const float dt = tile.dt[k][p.own], du = dt * tile.x[k][p.own];
          if (resets && tile.mark[k] > 0) {
#pragma unroll
            for (int j = 0; j < NPL; j++) h[j] = 0.f;
          }
          float b[NPL], c[NPL];
          loadStates<NPL>(tile.B[k] + p.lane * NPL, b);
          loadStates<NPL>(tile.C[k] + p.lane * NPL, c);
          sums[u] = 0.f;
#pragma unroll
          for (int j = 0; j < NPL; j++) {
            h[j] = h[j] * ex2(dt * a[j]) + du * b[j];
            sums[u] += h[j] * c[j];
            tile.h[k][threadIdx.x][j] = h[j];
          }
        }
        // Only the gradient of the gate asks for y.
        if (z) {
          const float own = sumOverLanes<LANES>(sums, p.lane);
          if (p.lane < 4) tile.y[k0 + p.lane][p.own] = own;
        }
      }

      // h holds the last state of the tile.
#pragma unroll 1
      for (int k0 = TOKENS - 2; k0 >= 0; k0 -= 2) {
        float pair[4];  // of token k0 + 1, then of k0: sum gh B, sum gh A exp(delta A) h[t-1]
#pragma unroll
        for (int u = 0; u < 2; u++) {
          const int k = k0 + 1 - u;
          const float dt = tile.dt[k][p.own], du = dt * tile.x[k][p.own], gy = tile.gy[k][p.own];
          const bool clears = resets && tile.mark[k] > 0;
          float b[NPL], c[NPL], previous[NPL], gBC[2 * NPL];
          loadStates<NPL>(tile.B[k] + p.lane * NPL, b);
          loadStates<NPL>(tile.C[k] + p.lane * NPL, c);
          if (k > 0) loadStates<NPL>(tile.h[k - 1][threadIdx.x], previous);
          float gDu = 0.f, gStep = 0.f;
#pragma unroll
          for (int j = 0; j < NPL; j++) {
            if (k == 0) previous[j] = before[j];
            const float decay = clears ? 0.f : ex2(dt * a[j]), held = decay * previous[j];
            gh[j] += c[j] * gy;
            gBC[j] = gh[j] * du;
            gBC[NPL + j] = gy * h[j];
            gDu += gh[j] * b[j];
            const float through = gh[j] * held;
            gStep += through * a[j];
            gA[j] += through * dt;
            gh[j] *= decay;
            h[j] = previous[j];
          }
          pair[2 * u] = gDu;
          pair[2 * u + 1] = gStep;
          int count;
          const int first = sumOverChannels<LANES, 2 * NPL>(gBC, count);
          // Lanes that hold the same sum write the same number.
          float* into = tile.gBC[threadIdx.x / 32][k];
#pragma unroll
          for (int j = 0; j < 2 * NPL; j++)
            if (j < count) {
              const int v = first + j;
              into[v < NPL ? p.lane * NPL + v : STATES + p.lane * NPL + v - NPL] = gBC[j];
            }
        }
        const float own = sumOverLanes<LANES>(pair, p.lane);
        const int k = p.lane < 2 ? k0 + 1 : k0;
        if (p.lane < 4 && p.lane % 2 == 0) tile.gDu[k][p.own] = own;
        if (p.lane < 4 && p.lane % 2 == 1) tile.gStep[k][p.own] = own;
      }
    };
    if (anyResets) walk(True{});
    else walk(False{});
    __syncthreads();

#pragma unroll
    for (int e = 0; e < EACH; e++) {
      const int k = threadIdx.x / CHANNELS + e * (THREADS / CHANNELS);
      if (k >= TOKENS || !isStaged || t0 + k >= to) continue;
      const bool padded = s.marks && tile.mark[k] < 0;
      const float own = tile.x[k][column], gy = tile.gy[k][column], gDu = tile.gDu[k][column];
      const float step = padded ? 0.f : (own * gDu + tile.gStep[k][column] * (1.f / LOG2E)) * slope[e];
      gx[e * ROWS * s.dInner] = narrow<T>(padded ? 0.f : D * gy + tile.dt[k][column] * gDu);
      gDelta[e * ROWS * s.dInner] = narrow<T>(step);
      if (gz) {
        const float sig = sigmoidOf(gate[e]), y = tile.y[k][column] + D * own;
        gz[e * ROWS * s.dInner] = narrow<T>(padded ? 0.f : up[e] * y * sig * (1.f + gate[e] * (1.f - sig)));
      }
      gD += gy * own;
      gBias += step;
    }
    gx -= TOKENS * s.dInner;
    gDelta -= TOKENS * s.dInner;
    if (gz) gz -= TOKENS * s.dInner;
    // [block of the group][batch, length][group][B or C][state]
    const i64 blocks = gridDim.x / s.groups;
    for (int i = threadIdx.x; i < TOKENS * 2 * STATES; i += THREADS) {
      const int k = i / (2 * STATES), which = i / STATES % 2, n = i % STATES;
      if (t0 + k >= to || n >= s.dState) continue;
      float sum = 0.f;
#pragma unroll
      for (int w = 0; w < Tile::WARPS; w++) sum += tile.gBC[w][k][which * STATES + n];
      const i64 block = blockIdx.x % blocks;
      s.gBC[(((block * s.batch * s.length + row0 + t0 + k) * s.groups + p.group) * 2 + which) * s.dState + n] = sum;
    }
  }

  if (p.active)
#pragma unroll
    for (int j = 0; j < NPL; j++) {
      const int n = p.lane * NPL + j;
      if (n >= s.dState) continue;
      s.gA[(part * s.dInner + p.channel) * s.dState + n] = gA[j];
      if (s.gInitial && p.chunk == 0) s.gInitial[stateAt + n] = gh[j];
    }
  // Threads that staged the same channel join their sums, in order.
  __syncthreads();
  float* joined = &tile.gBC[0][0][0];
  joined[threadIdx.x] = gD;
  joined[THREADS + threadIdx.x] = gBias;
  __syncthreads();
  if (threadIdx.x < CHANNELS && isStaged) {
    float d = 0.f, b = 0.f;
    for (int i = threadIdx.x; i < THREADS; i += CHANNELS) d += joined[i], b += joined[THREADS + i];
    s.gD[part * s.dInner + staged] = d;
    s.gBias[part * s.dInner + staged] = b;
  }
}

// What a chunk adds to the gradient of the state before it, from a gradient of zero after it, and the sum of its steps; `chunkStart` chains them.
template <class T, int LANES, int NPL> __device__ void summary(const Scan& s) {
  constexpr int THREADS = THREADS_OF<LANES>, CHANNELS = THREADS / LANES, STATES = LANES * NPL, TOKENS = 32;
  __shared__ float dts[TOKENS][CHANNELS], gys[TOKENS][CHANNELS];
  __shared__ __align__(16) float Cs[TOKENS][STATES];
  __shared__ int mark[TOKENS];
  const Place p = placeOf<LANES>(s);
  const T *delta = (const T*)s.delta, *z = (const T*)s.z, *C = (const T*)s.C, *g = (const T*)s.gy;
  const i64 row0 = p.batch * s.length, from = p.chunk * s.chunkLength, to = min(s.length, from + s.chunkLength);
  float a[NPL], gh[NPL], sum = 0.f;
#pragma unroll
  for (int j = 0; j < NPL; j++) {
    const int n = p.lane * NPL + j;
    a[j] = p.active && n < s.dState ? s.A[p.channel * s.dState + n] * LOG2E : 0.f;
    gh[j] = 0.f;
  }
  const int column = threadIdx.x % CHANNELS;
  const i64 staged = p.firstChannel + column;
  const bool isStaged = staged < p.endChannel;
  const float bias = isStaged && s.bias ? s.bias[staged] : 0.f;
  for (i64 t0 = from + (to - from - 1) / TOKENS * TOKENS; t0 >= from; t0 -= TOKENS) {
    __syncthreads();
    if (threadIdx.x < TOKENS) mark[threadIdx.x] = t0 + threadIdx.x >= to ? -1 : s.marks ? s.marks[row0 + t0 + threadIdx.x] : 0;
    __syncthreads();
    for (int i = threadIdx.x; i < TOKENS * CHANNELS; i += THREADS) {
      const int k = i / CHANNELS;
      const i64 row = row0 + t0 + k;
      const bool there = isStaged && mark[k] >= 0;
      const float raw = there ? widen(delta[row * s.deltaStride + staged]) + bias : 0.f;
      float gy = there && g ? widen(g[row * s.dInner + staged]) : 0.f;
      if (there && z) {
        const float gate = widen(z[row * s.zStride + staged]);
        gy *= gate * sigmoidOf(gate);
      }
      dts[k][column] = there ? (s.softplus ? softplusOf<T>(raw) : raw) : 0.f;
      gys[k][column] = gy;
    }
    for (int i = threadIdx.x; i < TOKENS * STATES; i += THREADS) {
      const int k = i / STATES, n = i % STATES;
      Cs[k][n] = mark[k] >= 0 && n < s.dState ? widen(C[(row0 + t0 + k) * s.CStride + p.group * s.dState + n]) : 0.f;
    }
    __syncthreads();
#pragma unroll 4
    for (int k = TOKENS - 1; k >= 0; k--) {
      const float dt = dts[k][p.own], gy = gys[k][p.own];
      const bool resets = mark[k] > 0;
      float c[NPL];
      loadStates<NPL>(Cs[k] + p.lane * NPL, c);
      sum += dt;
      if (resets) sum = INFINITY;
#pragma unroll
      for (int j = 0; j < NPL; j++) gh[j] = resets ? 0.f : (gh[j] + c[j] * gy) * ex2(dt * a[j]);
    }
  }
  if (!p.active) return;
  const i64 part = p.batch * s.chunks + p.chunk;
#pragma unroll
  for (int j = 0; j < NPL; j++)
    if (p.lane * NPL + j < s.dState) s.ends[(part * s.dState + p.lane * NPL + j) * s.dInner + p.channel] = gh[j];
  if (p.lane == 0) s.sums[part * s.dInner + p.channel] = sum;
}

}  // namespace

#define BACKWARD(name, T, LANES, NPL)                                                                                      \
  extern "C" __global__ void __launch_bounds__(THREADS_OF<LANES>, LANES == 16 ? 1 : 3) scan_backward_##LANES##_##NPL##_##name(Scan s) {                   \
    backward<T, LANES, NPL>(s);                                                                                            \
  }                                                                                                                        \
  extern "C" __global__ void __launch_bounds__(THREADS_OF<LANES>) scan_backward_summary_##LANES##_##NPL##_##name(Scan s) {           \
    summary<T, LANES, NPL>(s);                                                                                             \
  }
EACH_SCAN(BACKWARD)
