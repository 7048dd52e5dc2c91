// The selective scan, forward (README.md beside this). Channel-last: x [batch, length, dInner]. LANES threads share a channel, each with NPL of its
// states in registers; a block covers CHANNELS channels and walks the tokens tile by tile. What depends on channel and token alone (softplus, gate) is
// computed once per element while a tile is staged, so that the loop over tokens holds one exp, three multiply-adds and the loads of B and C per state.
#include "selective_scan.cuh"

namespace {

template <class T, int LANES, int NPL> struct Forward {
  static constexpr int THREADS = THREADS_OF<LANES>, CHANNELS = THREADS / LANES, STATES = LANES * NPL;
  // Static shared memory ends at 48 KiB.
  static constexpr int TOKENS = STATES > 128 ? 16 : 32;
  static constexpr int EACH = TOKENS * CHANNELS / THREADS, EACH_BC = (TOKENS * STATES + THREADS - 1) / THREADS;
  float2 step[TOKENS][CHANNELS];  // delta, delta x
  float x[TOKENS][CHANNELS], y[TOKENS][CHANNELS];
  alignas(16) float B[TOKENS][STATES], C[TOKENS][STATES];
  int mark[TOKENS];
};

// SUMMARY: only what a chunk does to the state (its end from a start of zero, and the sum of its steps), for `chunkStart` to chain.
template <class T, int LANES, int NPL, bool SUMMARY> __device__ void forward(const Scan& s) {
  using Tile = Forward<T, LANES, NPL>;
  constexpr int THREADS = Tile::THREADS, CHANNELS = Tile::CHANNELS, STATES = Tile::STATES, TOKENS = Tile::TOKENS, EACH = Tile::EACH, EACH_BC = Tile::EACH_BC;
  __shared__ Tile tile;
  const Place p = placeOf<LANES>(s);
  const T *__restrict__ x = (const T*)s.x, *__restrict__ delta = (const T*)s.delta, *__restrict__ z = (const T*)s.z;
  const T *__restrict__ B = (const T*)s.B, *__restrict__ C = (const T*)s.C;
  T* __restrict__ y = (T*)s.y;
  const i64 row0 = p.batch * s.length, from = p.chunk * s.chunkLength, to = min(s.length, from + s.chunkLength);

  float a[NPL], h[NPL];
  const i64 stateAt = (p.batch * s.dInner + p.channel) * s.dState;
#pragma unroll
  for (int j = 0; j < NPL; j++) {
    const int n = p.lane * NPL + j;
    const bool real = p.active && n < s.dState;
    a[j] = real ? s.A[p.channel * s.dState + n] * LOG2E : 0.f;
    h[j] = !SUMMARY && real ? chunkStart<false>(s, s.initial, p.batch, p.chunk, p.channel, n, a[j]) : 0.f;
  }
  float sum = 0;  // of the steps: the product of exp(delta A) over the chunk is exp(A sum)
  const int column = threadIdx.x % CHANNELS;  // the channel that this thread stages
  const i64 staged = p.firstChannel + column;
  const bool isStaged = p.firstChannel + column < p.endChannel;
  const float bias = isStaged && s.bias ? s.bias[staged] : 0.f, D = isStaged && s.D ? s.D[staged] : 0.f;

  T nextX[EACH], nextDelta[EACH], nextZ[EACH], gate[EACH], nextB[EACH_BC], nextC[EACH_BC];
  // Addresses are kept and moved on: computing them anew costs more than the rest of the staging.
  constexpr int ROWS = THREADS / CHANNELS;  // tokens that are staged at once
  const i64 firstRow = row0 + from + threadIdx.x / CHANNELS;
  x += firstRow * s.xStride + staged;
  delta += firstRow * s.deltaStride + staged;
  if (z) z += firstRow * s.zStride + staged;
  y += firstRow * s.dInner + staged;
  const int stateOf = threadIdx.x % STATES, tokenOf = threadIdx.x / STATES;
  constexpr int ROWS_BC = THREADS / STATES > 0 ? THREADS / STATES : 1;
  B += (row0 + from + tokenOf) * s.BStride + p.group * s.dState + stateOf;
  C += (row0 + from + tokenOf) * s.CStride + p.group * s.dState + stateOf;
  const T none = narrow<T>(0.f);
  // The next tile, `left` tokens of which there are.
  const auto fetch = [&](int left) {
#pragma unroll
    for (int e = 0; e < EACH; e++) {
      const bool there = isStaged && (int)(threadIdx.x / CHANNELS) + e * ROWS < left;
      nextX[e] = there ? x[e * ROWS * s.xStride] : none;
      nextDelta[e] = there ? delta[e * ROWS * s.deltaStride] : none;
      if (!SUMMARY && z) nextZ[e] = there ? z[e * ROWS * s.zStride] : none;
    }
    x += TOKENS * s.xStride;
    delta += TOKENS * s.deltaStride;
    if (z) z += TOKENS * s.zStride;
    if constexpr (STATES <= THREADS) {
#pragma unroll
      for (int e = 0; e < EACH_BC; e++) {
        const bool there = tokenOf + e * ROWS_BC < min(left, TOKENS) && stateOf < s.dState;
        nextB[e] = there ? B[e * ROWS_BC * s.BStride] : none;
        if (!SUMMARY) nextC[e] = there ? C[e * ROWS_BC * s.CStride] : none;
      }
    } else {
#pragma unroll
      for (int e = 0; e < EACH_BC; e++) {
        const int k = e / (STATES / THREADS), n = threadIdx.x + e % (STATES / THREADS) * THREADS;
        const bool there = k < left && n < s.dState;
        nextB[e] = there ? B[k * s.BStride + n - threadIdx.x] : none;
        if (!SUMMARY) nextC[e] = there ? C[k * s.CStride + n - threadIdx.x] : none;
      }
    }
    B += TOKENS * s.BStride;
    C += TOKENS * s.CStride;
  };
  // One tile's tokens. RESETS: some of them start a new sequence.
  const auto walk = [&](auto resets, i64 t0) {
#pragma unroll 1
    for (int k0 = 0; k0 < TOKENS; k0 += 4) {
      if (!SUMMARY && s.saved && k0 % CHECKPOINT_OF<STATES> == 0 && t0 + k0 < to && p.active) {
        float* save = s.saved + ((p.batch * s.checkpoints + (t0 + k0) / CHECKPOINT_OF<STATES>) * s.dInner + p.channel) * s.dState;
#pragma unroll
        for (int j = 0; j < NPL; j++)
          if (p.lane * NPL + j < s.dState) save[p.lane * NPL + j] = h[j];
      }
      float part[4];
#pragma unroll
      for (int u = 0; u < 4; u++) {
        const int k = k0 + u;
        const auto [dt, du] = tile.step[k][p.own];
        if (resets && tile.mark[k] > 0) {
#pragma unroll
          for (int j = 0; j < NPL; j++) h[j] = 0.f;
          if (SUMMARY) sum = INFINITY;
        }
        if (SUMMARY) sum += dt;
        float b[NPL], c[NPL], acc = 0.f;
        loadStates<NPL>(tile.B[k] + p.lane * NPL, b);
        if (!SUMMARY) loadStates<NPL>(tile.C[k] + p.lane * NPL, c);
#pragma unroll
        for (int j = 0; j < NPL; j++) {
          h[j] = h[j] * ex2(dt * a[j]) + du * b[j];
          if (!SUMMARY) acc += h[j] * c[j];
        }
        part[u] = acc;
      }
      if (!SUMMARY) {
        const float own = sumOverLanes<LANES>(part, p.lane);
        if (p.lane < 4) tile.y[k0 + p.lane][p.own] = own;
      }
    }
  };

  fetch((int)min(to - from, (i64)TOKENS));
  for (i64 t0 = from; t0 < to; t0 += TOKENS) {
    bool anyResets = false;
    if (s.marks) {
      const int mark = threadIdx.x < TOKENS && t0 + threadIdx.x < to ? s.marks[row0 + t0 + threadIdx.x] : -1;
      if (threadIdx.x < TOKENS) tile.mark[threadIdx.x] = mark;
      anyResets = __syncthreads_or(mark > 0);
    }
#pragma unroll
    for (int e = 0; e < EACH; e++) {
      const int k = threadIdx.x / CHANNELS + e * (THREADS / CHANNELS);
      const bool there = isStaged && t0 + k < to && !(s.marks && tile.mark[k] < 0);
      const float raw = widen(nextDelta[e]) + bias;
      const float dt = there ? (s.softplus ? softplusOf<T>(raw) : raw) : 0.f, own = there ? widen(nextX[e]) : 0.f;
      tile.step[k][column] = make_float2(dt, dt * own);
      if (!SUMMARY) tile.x[k][column] = own;
      if (!SUMMARY && z) gate[e] = nextZ[e];
    }
#pragma unroll
    for (int e = 0; e < EACH_BC; e++) {
      const int i = threadIdx.x + e * THREADS;
      // What stands at padding is not read, NaN included.
      const bool there = i < TOKENS * STATES && !(s.marks && tile.mark[i / STATES] < 0);
      if (i < TOKENS * STATES) (&tile.B[0][0])[i] = there ? widen(nextB[e]) : 0.f;
      if (!SUMMARY && i < TOKENS * STATES) (&tile.C[0][0])[i] = there ? widen(nextC[e]) : 0.f;
    }
    __syncthreads();
    if (t0 + TOKENS < to) fetch((int)min(to - t0 - TOKENS, (i64)TOKENS));

    if (anyResets) walk(True{}, t0);
    else walk(False{}, t0);
    __syncthreads();
    if constexpr (!SUMMARY) {
#pragma unroll
      for (int e = 0; e < EACH; e++) {
        const int k = threadIdx.x / CHANNELS + e * (THREADS / CHANNELS);
        const i64 t = t0 + k;
        if (!isStaged || t >= to) continue;
        float out = 0.f;
        if (!(s.marks && tile.mark[k] < 0)) {
          out = tile.y[k][column] + D * tile.x[k][column];
          if (z) {
            const float wide = widen(gate[e]);
            out *= wide * sigmoidOf(wide);
          }
        }
        y[e * ROWS * s.dInner] = narrow<T>(out);
      }
      y += TOKENS * s.dInner;
      __syncthreads();
    }
  }
  if (!p.active) return;
#pragma unroll
  for (int j = 0; j < NPL; j++) {
    const int n = p.lane * NPL + j;
    if (n >= s.dState) continue;
    if (SUMMARY) s.ends[((p.batch * s.chunks + p.chunk) * s.dState + n) * s.dInner + p.channel] = h[j];
    else if (p.chunk == s.chunks - 1) s.final[stateAt + n] = h[j];
  }
  if (SUMMARY && p.lane == 0) s.sums[(p.batch * s.chunks + p.chunk) * s.dInner + p.channel] = sum;
}

}  // namespace

#define FORWARD(name, T, LANES, NPL)                                                                              \
  extern "C" __global__ void __launch_bounds__(THREADS_OF<LANES>) scan_forward_##LANES##_##NPL##_##name(Scan s) {           \
    forward<T, LANES, NPL, false>(s);                                                                             \
  }                                                                                                               \
  extern "C" __global__ void __launch_bounds__(THREADS_OF<LANES>) scan_summary_##LANES##_##NPL##_##name(Scan s) {           \
    forward<T, LANES, NPL, true>(s);                                                                              \
  }
EACH_SCAN(FORWARD)
