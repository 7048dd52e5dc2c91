// The selective scan, backward, dState at most 16: a ring of warps (ring.cuh) from the last token to the first. Per state a warp computes the states of its
// tokens again from the one that the forward pass kept, into registers, then runs the adjoint recurrence from the gradient that the warp after it hands on.
// Gradients of B and C are summed over channels by tensor cores (a product with ones; float32 in two parts), and over blocks in a fixed order afterwards.
#include "ring.cuh"

namespace {

constexpr int K = CHECKPOINT_OF<RING_STATES>;

// States whose sums over quads are put together before they are summed over the warp.
constexpr int TOGETHER = 4;

template <int W> struct RingBackward {
  alignas(16) float B[W][RING_STATES][K], C[W][RING_STATES][K];
  float carry[RING_STATES][32], A[RING_STATES][32], gA[RING_STATES][32], kept[W][RING_STATES][32];
  alignas(16) float gBC[W][K][2 * RING_STATES + 4];
  float4 quads[W][2 * TOGETHER][36];  // a row is padded to keep readers on different banks
  float gD[W][32], gBias[W][32];
  unsigned long long barrier[W][RING_STATES];
};

// d += a times ones that put the sums over the lanes of a quad into two of d's columns.
__device__ __forceinline__ void sumOverQuads(float (&d)[4], const float (&a)[4], float first, float second) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])), "r"(__float_as_uint(a[3])), "r"(__float_as_uint(first)),
        "r"(__float_as_uint(second)));
}

template <class T, int W, int UNROLL> __device__ __forceinline__ void ringBackward(const Scan& s) {
  using Tile = RingBackward<W>;
  constexpr int TOKENS = W * K;
  constexpr unsigned SIZE = sizeof(T);
  extern __shared__ float4 room[];
  Tile& tile = *reinterpret_cast<Tile*>(room);
  const RingPlace p = backwardPlace(s, s.unsplit, s.chunks);
  const int w = p.warp, lane = p.lane, after = w == W - 1 ? 0 : w + 1;
  const bool ends = p.to == s.length;  // with the gradient of the last state
  if (!ends) awaitPass();
  for (int n = w; n < RING_STATES; n += W) {
    const bool there = p.active && n < s.dState;
    const float a = there ? s.A[(i64)p.channel * s.dState + n] * LOG2E : 0.f;
    tile.A[n][lane] = a;
    tile.gA[n][lane] = 0.f;
    tile.carry[n][lane] = there ? chunkStart<true>(s, s.gFinal, p.batch, p.chunk, p.channel, n, a) : 0.f;
  }
  for (int i = threadIdx.x; i < W * RING_STATES; i += W * 32) barrierInit(sharedAddress(&tile.barrier[0][0] + i));
  const float bias = p.active && s.bias ? s.bias[p.channel] : 0.f, D = p.active && s.D ? s.D[p.channel] : 0.f;
  const unsigned xStride = s.xStride * SIZE, deltaStride = s.deltaStride * SIZE, zStride = s.zStride * SIZE, stride = s.dInner * SIZE;
  const i64 row0 = p.batch * s.length, lastTile = p.from + (p.to - p.from - 1) / TOKENS * TOKENS, row = row0 + lastTile + w * K;
  const char *x = (const char*)s.x + (row * s.xStride + p.channel) * SIZE, *delta = (const char*)s.delta + (row * s.deltaStride + p.channel) * SIZE;
  const char* z = s.z ? (const char*)s.z + (row * s.zStride + p.channel) * SIZE : nullptr;
  i64 at = (row * s.dInner + p.channel) * SIZE;  // in gy, gx, gDelta and gz, which are dense
  const T *B = (const T*)s.B + row * s.BStride + p.group * s.dState, *C = (const T*)s.C + row * s.CStride + p.group * s.dState;
  const bool alignedB = isAligned<T>(s.B, s.BStride, s.dState), alignedC = isAligned<T>(s.C, s.CStride, s.dState);
  const unsigned from = sharedAddress(&tile.barrier[after][0]), to = sharedAddress(&tile.barrier[w][0]);
  const T none = narrow<T>(0.f);
  float one[8];
#pragma unroll
  for (int i = 0; i < 8; i++) one[i] = lane / 4 == i ? 1.f : 0.f;
  // What this lane sums over the quads: of the state n0 + sumState, gradients of B and C for tokens sumToken and the one after it.
  const int sumState = lane / 8, sumToken = lane / 4 % 2 * 8 + lane % 4 * 2;
  const int states = s.dState;
  float gD = 0.f, gBias = 0.f;
  __syncthreads();
  // The gradient that the last warp starts from is there already.
  if (w == W - 1)
    for (int g = 0; g < RING_STATES; g++) barrierArrive(from + g * 8);

  unsigned round = 0;
  for (i64 t0 = lastTile; t0 >= p.from; t0 -= TOKENS, round++) {
    const int left = (int)min(p.to - t0 - w * K, (i64)K);
    const RingMarks marks = ringMarks<K>(s.marks, row0 + t0 + w * K, left);
    const bool full = p.whole && !marks.padded;
    const char* g = s.gy ? (const char*)s.gy + at : nullptr;
    {
      // Where there are no tokens any state will do: nothing of it is used.
      const float* start = s.saved + (p.batch * s.checkpoints + (left > 0 ? (t0 + w * K) / K : 0)) * states * s.dInner + (p.active ? p.channel : 0);
      for (int n = 0; n < states; n++) copyAsync(&tile.kept[w][n][lane], start + n * s.dInner);
    }
    float dt[K], du[K], gy[K];
    {
      RingStates<T, K> b, c;
      b.load(B, s.BStride, alignedB, states, marks.padded);
      c.load(C, s.CStride, alignedC, states, marks.padded);
      __syncwarp();
      b.store(tile.B[w]);
      c.store(tile.C[w]);
    }
    const auto stage = [&](auto full) {
      T rawX[K], rawDelta[K], rawZ[K], rawG[K];
#pragma unroll
      for (int k = 0; k < K; k++) {
        const bool there = full || (p.active && !(marks.padded >> k & 1));
        rawX[k] = there ? loadRow<T>(x, k, xStride) : none;
        rawDelta[k] = there ? loadRow<T>(delta, k, deltaStride) : none;
        rawG[k] = there && g ? loadRow<T>(g, k, stride) : none;
        if (z) rawZ[k] = there ? loadRow<T>(z, k, zStride) : none;
      }
#pragma unroll
      for (int k = 0; k < K; k++) {
        const bool there = full || (p.active && !(marks.padded >> k & 1));
        const float raw = widen(rawDelta[k]) + bias;
        dt[k] = stepOf<T>(raw, there, s.softplus);
        du[k] = dt[k] * widen(rawX[k]);
        gy[k] = widen(rawG[k]);
        if (z) {
          const float gate = widen(rawZ[k]);
          gy[k] *= gate * sigmoidOf(gate);
        }
      }
    };
    if (full) stage(True{});
    else stage(False{});
    copyWait();
    __syncwarp();
    float y[K], gDu[K], gStep[K];
#pragma unroll
    for (int k = 0; k < K; k++) y[k] = gDu[k] = gStep[k] = 0.f;
    const auto walk = [&](auto resets) {
#pragma unroll 1
      for (int n0 = 0; n0 < states; n0 += TOGETHER) {
#pragma unroll UNROLL
        for (int i = 0; i < TOGETHER; i++) {
          const int n = n0 + i;
          if (n >= states) break;
          const float a = tile.A[n][lane], before = tile.kept[w][n][lane];
          float h[K], decay[K], h1 = before;
#pragma unroll
          for (int k0 = 0; k0 < K; k0 += 4) {
            float b[4], c[4];
            loadStates<4>(&tile.B[w][n][k0], b);
            loadStates<4>(&tile.C[w][n][k0], c);
#pragma unroll
            for (int j = 0; j < 4; j++) {
              const int k = k0 + j;
              decay[k] = resets && (marks.resets >> k & 1) ? 0.f : ex2Early(dt[k] * a);
              h[k] = h1 = h1 * decay[k] + du[k] * b[j];
              y[k] += h1 * c[j];
            }
          }
          barrierWait(from + n * 8, round & 1);
          float gh = tile.carry[n][lane], gA = tile.gA[n][lane], d[K / 8][4] = {};
#pragma unroll
          for (int k0 = K - 4; k0 >= 0; k0 -= 4) {
            float b[4], c[4];
            loadStates<4>(&tile.B[w][n][k0], b);
            loadStates<4>(&tile.C[w][n][k0], c);
#pragma unroll
            for (int pair = 1; pair >= 0; pair--) {
              float terms[4];  // of B and C, for two tokens
#pragma unroll
              for (int j = 2 * pair + 1; j >= 2 * pair; j--) {
                const int k = k0 + j;
                gh += c[j] * gy[k];
                terms[k % 2 * 2] = gh * du[k];
                terms[k % 2 * 2 + 1] = h[k] * gy[k];
                gDu[k] += gh * b[j];
                gh *= decay[k];
                const float through = gh * (k > 0 ? h[k > 0 ? k - 1 : 0] : before);
                gStep[k] += through * a;
                gA += through * dt[k];
              }
              const int k = k0 + 2 * pair;
              if constexpr (SIZE == 4) {
                float low[4];
#pragma unroll
                for (int j = 0; j < 4; j++) {
                  const float high = __uint_as_float(__float_as_uint(terms[j]) & 0xffffe000u);
                  low[j] = terms[j] - high;
                  terms[j] = high;
                }
                sumOverQuads(d[k / 8], low, one[k % 8], one[k % 8 + 1]);
              }
              sumOverQuads(d[k / 8], terms, one[k % 8], one[k % 8 + 1]);
            }
          }
          tile.carry[n][lane] = gh;
          tile.gA[n][lane] = gA;
          barrierArrive(to + n * 8);
#pragma unroll
          for (int q = 0; q < K / 8; q++) tile.quads[w][i * 2 + q][lane] = make_float4(d[q][0], d[q][1], d[q][2], d[q][3]);
        }
        __syncwarp();
        float4 sum = tile.quads[w][lane / 4][lane % 4];
#pragma unroll
        for (int q = 1; q < 8; q++) {
          const float4 v = tile.quads[w][lane / 4][q * 4 + lane % 4];
          sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
        }
        float(*into)[2 * RING_STATES + 4] = &tile.gBC[w][sumToken];
        const int own = n0 + sumState;
        into[0][own] = sum.x, into[1][own] = sum.y, into[0][RING_STATES + own] = sum.z, into[1][RING_STATES + own] = sum.w;
        __syncwarp();
      }
    };
    if (marks.resets) walk(True{});
    else walk(False{});
    // Eight tokens at a time: what they load is on its way together, and nothing branches between them.
    const auto write = [&](auto full) {
      char *gx = (char*)s.gx + at, *gDelta = (char*)s.gDelta + at, *gz = s.gz ? (char*)s.gz + at : nullptr;
#pragma unroll
      for (int k0 = 0; k0 < K; k0 += 8) {
        T rawX[8], rawDelta[8], rawZ[8], rawG[8];
#pragma unroll
        for (int j = 0; j < 8; j++) {
          const bool there = full || (p.active && !(marks.padded >> (k0 + j) & 1));
          rawX[j] = there ? loadRow<T>(x, k0 + j, xStride) : none;
          rawDelta[j] = there ? loadRow<T>(delta, k0 + j, deltaStride) : none;
          rawZ[j] = there && gz ? loadRow<T>(z, k0 + j, zStride) : none;
          rawG[j] = there && gz && g ? loadRow<T>(g, k0 + j, stride) : none;
        }
#pragma unroll
        for (int j = 0; j < 8; j++) {
          const int k = k0 + j;
          const bool there = full || (p.active && !(marks.padded >> k & 1));
          const float own = widen(rawX[j]), raw = widen(rawDelta[j]) + bias;
          const float slope = choose(s.softplus && raw <= 20.f, sigmoidOf(raw), 1.f);
          const float gRaw = there ? (own * gDu[k] + gStep[k] * (1.f / LOG2E)) * slope : 0.f;
          gD += gy[k] * own;
          gBias += gRaw;
          if (!full && (!p.active || k >= left)) continue;
          storeRow<T>(gx, k, stride, narrow<T>(there ? D * gy[k] + dt[k] * gDu[k] : 0.f));
          storeRow<T>(gDelta, k, stride, narrow<T>(gRaw));
        }
        if (!gz) continue;
#pragma unroll
        for (int j = 0; j < 8; j++) {
          const float gate = widen(rawZ[j]), sig = sigmoidOf(gate);
          const float value = widen(rawG[j]) * (y[k0 + j] + D * widen(rawX[j])) * sig * (1.f + gate * (1.f - sig));
          if (full || (p.active && k0 + j < left)) storeRow<T>(gz, k0 + j, stride, narrow<T>(value));
        }
      }
    };
    if (full) write(True{});
    else write(False{});
    __syncwarp();
    // [block of the group][batch, length][group][B or C][state]
    float* into = s.gBC + ((p.block * s.batch * s.length + row0 + t0 + w * K) * s.groups + p.group) * 2 * states;
    const i64 rowOf = s.groups * 2 * states;
    if (states == RING_STATES) {
#pragma unroll
      for (int i = lane; i < K * 2 * RING_STATES / 4; i += 32) {
        const int k = i / (2 * RING_STATES / 4), v = i % (2 * RING_STATES / 4) * 4;
        if (k < left) *reinterpret_cast<float4*>(into + k * rowOf + v) = *reinterpret_cast<const float4*>(&tile.gBC[w][k][v]);
      }
    } else {
      for (int i = lane; i < K * 2 * RING_STATES; i += 32) {
        const int k = i / (2 * RING_STATES), which = i / RING_STATES % 2, n = i % RING_STATES;
        if (k < left && n < states) into[k * rowOf + which * states + n] = tile.gBC[w][k][i % (2 * RING_STATES)];
      }
    }
    at -= (i64)TOKENS * stride;
    x -= TOKENS * xStride;
    delta -= TOKENS * deltaStride;
    if (z) z -= TOKENS * zStride;
    B -= TOKENS * s.BStride;
    C -= TOKENS * s.CStride;
  }
  tile.gD[w][lane] = gD;
  tile.gBias[w][lane] = gBias;
  __syncthreads();
  letNextStart();
  if (!p.active) return;
  // A block that took the whole length leaves nothing for the other chunks.
  const i64 parts = p.all ? s.chunks : 1;
  for (int n = w; n < states; n += W) {
    for (i64 q = 0; q < parts; q++) s.gA[((p.part - q) * s.dInner + p.channel) * states + n] = q == 0 ? tile.gA[n][lane] : 0.f;
    if (s.gInitial && p.from == 0) s.gInitial[(p.batch * s.dInner + p.channel) * states + n] = tile.carry[n][lane];
  }
  if (w > 0) return;
  float d = 0.f, b = 0.f;
  for (int q = 0; q < W; q++) d += tile.gD[q][lane], b += tile.gBias[q][lane];
  for (i64 q = 0; q < parts; q++) {
    s.gD[(p.part - q) * s.dInner + p.channel] = q == 0 ? d : 0.f;
    s.gBias[(p.part - q) * s.dInner + p.channel] = q == 0 ? b : 0.f;
  }
}

}  // namespace

#define RING(name, T) \
  extern "C" __global__ void __launch_bounds__(256, 1) scan_ring_backward_##name(Scan s) { ringBackward<T, 8, 1>(s); }
static_assert(sizeof(RingBackward<8>) == 97280, "what launches ask for");
RING(float32, float)
RING(bf16, bf16)
RING(f16, f16)
