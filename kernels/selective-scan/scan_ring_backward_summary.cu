// What a chunk adds to the gradient of the state before it, from a gradient of zero after it, and the sum of its steps; `chunkStart` chains them. dState at most
// 16: a ring of warps (ring.cuh) from the last token to the first.
#include "ring.cuh"

namespace {

template <int W, int K> struct RingBackwardSummary {
  alignas(16) float C[W][RING_STATES][K];
  float carry[RING_STATES][32], A[RING_STATES][32], sums[W][32];
  unsigned long long barrier[W][RING_STATES / 2];
};

template <class T, int W, int K> __device__ __forceinline__ void ringBackwardSummary(const Scan& s) {
  using Tile = RingBackwardSummary<W, K>;
  constexpr int TOKENS = W * K, G = 2, GROUPS = RING_STATES / G;
  constexpr unsigned SIZE = sizeof(T);
  __shared__ Tile tile;
  const RingPlace p = backwardPlace(s, 0, s.chunks - 1);
  const int w = p.warp, lane = p.lane, after = w == W - 1 ? 0 : w + 1;
  letNextStart();
  for (int n = w; n < RING_STATES; n += W) {
    tile.A[n][lane] = p.active && n < s.dState ? s.A[(i64)p.channel * s.dState + n] * LOG2E : 0.f;
    tile.carry[n][lane] = 0.f;
  }
  for (int i = threadIdx.x; i < W * GROUPS; i += W * 32) barrierInit(sharedAddress(&tile.barrier[0][0] + i));
  const float bias = p.active && s.bias ? s.bias[p.channel] : 0.f;
  const unsigned deltaStride = s.deltaStride * SIZE, zStride = s.zStride * SIZE, stride = s.dInner * SIZE;
  const i64 row0 = p.batch * s.length, lastTile = p.from + (p.to - p.from - 1) / TOKENS * TOKENS, row = row0 + lastTile + w * K;
  const char *delta = (const char*)s.delta + (row * s.deltaStride + p.channel) * SIZE, *z = s.z ? (const char*)s.z + (row * s.zStride + p.channel) * SIZE : nullptr;
  const char* g = s.gy ? (const char*)s.gy + (row * s.dInner + p.channel) * SIZE : nullptr;
  const T* C = (const T*)s.C + row * s.CStride + p.group * s.dState;
  const bool aligned = isAligned<T>(s.C, s.CStride, s.dState);
  const unsigned from = sharedAddress(&tile.barrier[after][0]), to = sharedAddress(&tile.barrier[w][0]);
  const T none = narrow<T>(0.f);
  float sum = 0.f;
  __syncthreads();
  // The gradient that the last warp starts from is there already.
  if (w == W - 1)
    for (int g = 0; g < GROUPS; g++) barrierArrive(from + g * 8);

  unsigned round = 0;
  for (i64 t0 = lastTile; t0 >= p.from; t0 -= TOKENS, round++) {
    const int left = (int)min(p.to - t0 - w * K, (i64)K);
    const RingMarks marks = ringMarks<K>(s.marks, row0 + t0 + w * K, left);
    const bool full = p.whole && !marks.padded;
    RingStates<T, K> c;
    c.load(C, s.CStride, aligned, s.dState, marks.padded);
    float dt[K], gy[K];
    const auto stage = [&](auto full) {
      T rawDelta[K], rawZ[K], rawG[K];
#pragma unroll
      for (int k = 0; k < K; k++) {
        const bool there = full || (p.active && !(marks.padded >> k & 1));
        rawDelta[k] = there ? loadRow<T>(delta, k, deltaStride) : none;
        rawG[k] = there && g ? loadRow<T>(g, k, stride) : none;
        if (z) rawZ[k] = there ? loadRow<T>(z, k, zStride) : none;
      }
#pragma unroll
      for (int k = 0; k < K; k++) {
        const bool there = full || (p.active && !(marks.padded >> k & 1));
        const float raw = widen(rawDelta[k]) + bias;
        dt[k] = stepOf<T>(raw, there, s.softplus);
        sum += dt[k];
        gy[k] = widen(rawG[k]);
        if (z) {
          const float gate = widen(rawZ[k]);
          gy[k] *= gate * sigmoidOf(gate);
        }
      }
    };
    if (full) stage(True{});
    else stage(False{});
    if (marks.resets) sum = INFINITY;
    __syncwarp();
    c.store(tile.C[w]);
    __syncwarp();
    const auto walk = [&](auto resets) {
#pragma unroll 2
      for (int n0 = 0; n0 < RING_STATES; n0 += G) {
        if (n0 >= s.dState) break;
        float a[G], gh[G];
#pragma unroll
        for (int q = 0; q < G; q++) a[q] = tile.A[n0 + q][lane];
        float decay[G][K];
#pragma unroll
        for (int q = 0; q < G; q++)
#pragma unroll
          for (int k = 0; k < K; k++) decay[q][k] = ex2Early(dt[k] * a[q]);
        barrierWait(from + n0 / G * 8, round & 1);
#pragma unroll
        for (int q = 0; q < G; q++) gh[q] = tile.carry[n0 + q][lane];
#pragma unroll
        for (int k0 = K - 4; k0 >= 0; k0 -= 4) {
#pragma unroll
          for (int q = 0; q < G; q++) {
            float four[4];
            loadStates<4>(&tile.C[w][n0 + q][k0], four);
#pragma unroll
            for (int j = 3; j >= 0; j--) {
              const int k = k0 + j;
              gh[q] = resets && (marks.resets >> k & 1) ? 0.f : (gh[q] + four[j] * gy[k]) * decay[q][k];
            }
          }
        }
#pragma unroll
        for (int q = 0; q < G; q++) tile.carry[n0 + q][lane] = gh[q];
        barrierArrive(to + n0 / G * 8);
      }
    };
    if (marks.resets) walk(True{});
    else walk(False{});
    delta -= TOKENS * deltaStride;
    C -= TOKENS * s.CStride;
    if (z) z -= TOKENS * zStride;
    if (g) g -= TOKENS * stride;
  }
  tile.sums[w][lane] = sum;
  __syncthreads();
  if (!p.active) return;
  for (int n = w; n < s.dState; n += W) s.ends[(p.part * s.dState + n) * s.dInner + p.channel] = tile.carry[n][lane];
  if (w > 0) return;
  float all = 0.f;
  for (int q = 0; q < W; q++) all += tile.sums[q][lane];
  s.sums[p.part * s.dInner + p.channel] = all;
}

}  // namespace

#define RING(name, T) \
  extern "C" __global__ void __launch_bounds__(256, 3) scan_ring_backward_summary_##name(Scan s) { ringBackwardSummary<T, 8, 8>(s); }
RING(float32, float)
RING(bf16, bf16)
RING(f16, f16)
