// The selective scan, forward, dState at most 16: a ring of warps (ring.cuh). A thread has K tokens of one channel; what depends on channel and token alone
// (softplus, gate) it computes once, and y is summed over the states in its registers.
#include "ring.cuh"

namespace {

template <class T, int W, int K, int G> struct Ring {
  static constexpr int GROUPS = RING_STATES / G, TOKENS = W * K;
  alignas(16) float B[W][RING_STATES][K], C[W][RING_STATES][K];
  float carry[RING_STATES][32], A[RING_STATES][32], sums[W][32];
  unsigned long long barrier[W][GROUPS];
};

// The bits of a word of `known`: a block works on the chunk; what the chunk does to the state is there for others to read.
constexpr unsigned BEGUN = 1, KNOWN = 2;
__device__ __forceinline__ unsigned* wordOf(const Scan& s, unsigned unit, unsigned chunk) { return s.known + unit * s.chunks + chunk; }
__device__ __forceinline__ void tellBegun(const Scan& s, unsigned unit, unsigned chunk) {
  if (threadIdx.x == 0) asm volatile("red.relaxed.gpu.global.or.b32 [%0], %1;" ::"l"(wordOf(s, unit, chunk)), "r"(BEGUN) : "memory");
}
__device__ __forceinline__ void tellKnown(const Scan& s, const RingPlace& p) {
  __syncthreads();
  if (threadIdx.x > 0) return;
  __threadfence();
  asm volatile("red.release.gpu.global.or.b32 [%0], %1;" ::"l"(wordOf(s, p.unit, p.chunk)), "r"(BEGUN | KNOWN) : "memory");
}
// Waits until it is known what all chunks before this one do, and returns this one; or returns one of them that no block has begun for so many looks (some 30 us).
constexpr int PATIENCE = 100;
__device__ __forceinline__ unsigned awaitChunks(const Scan& s, unsigned unit, unsigned chunk) {
  __shared__ unsigned next;
  if (threadIdx.x == 0) next = chunk;
  __syncthreads();
  for (unsigned c = threadIdx.x; c < chunk; c += blockDim.x)
    for (int look = 0;; look++) {
      unsigned word;
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(word) : "l"(wordOf(s, unit, c)) : "memory");
      if (word & KNOWN) break;
      if (look >= PATIENCE && !(word & BEGUN)) {
        atomicMin(&next, c);
        break;
      }
      __nanosleep(200);
    }
  __syncthreads();
  return next;
}
// Before a block's next piece: its barriers begin anew.
template <class Tile> __device__ __forceinline__ void endBarriers() {
  extern __shared__ float4 room[];
  Tile& tile = *reinterpret_cast<Tile*>(room);
  __syncthreads();
  for (unsigned i = threadIdx.x; i < sizeof tile.barrier / 8; i += blockDim.x) barrierEnd(sharedAddress(&tile.barrier[0][0] + i));
  __syncthreads();
}

// SAVING also keeps the states that the backward pass starts from. SUMMARY: only what a chunk does to the state (its end from a start of zero, and the sum of
// its steps), for `chunkStart` to chain; a first chunk leaves the state itself, as after a reset.
enum class Pass { PLAIN, SAVING, SUMMARY };
template <class T, int W, int K, int G, int UNROLL, Pass PASS> __device__ __forceinline__ void ring(const Scan& s, const RingPlace& p) {
  using Tile = Ring<T, W, K, G>;
  constexpr int GROUPS = Tile::GROUPS, TOKENS = Tile::TOKENS;
  constexpr bool SUMMARY = PASS == Pass::SUMMARY, SAVING = PASS == Pass::SAVING;
  static_assert(!SAVING || K % CHECKPOINT_OF<RING_STATES> == 0, "a warp's tokens start where a state is kept");
  extern __shared__ float4 room[];
  Tile& tile = *reinterpret_cast<Tile*>(room);
  const int w = p.warp, lane = p.lane, before = w == 0 ? W - 1 : w - 1;
  for (int n = w; n < RING_STATES; n += W) {
    const bool there = p.active && n < s.dState;
    const float a = there ? s.A[(i64)p.channel * s.dState + n] * LOG2E : 0.f;
    tile.A[n][lane] = a;
    tile.carry[n][lane] = !SUMMARY && there ? chunkStart<false>(s, s.initial, p.batch, p.chunk, p.channel, n, a) : 0.f;
  }
  for (int i = threadIdx.x; i < W * GROUPS; i += W * 32) barrierInit(sharedAddress(&tile.barrier[0][0] + i));
  const float bias = p.active && s.bias ? s.bias[p.channel] : 0.f, D = p.active && s.D ? s.D[p.channel] : 0.f;
  constexpr unsigned SIZE = sizeof(T);
  const unsigned xStride = s.xStride * SIZE, deltaStride = s.deltaStride * SIZE, zStride = s.zStride * SIZE, yStride = s.dInner * SIZE;
  const i64 row0 = p.batch * s.length, row = row0 + p.from + w * K;
  const char *x = (const char*)s.x + (row * s.xStride + p.channel) * SIZE, *delta = (const char*)s.delta + (row * s.deltaStride + p.channel) * SIZE;
  const char* z = SUMMARY || !s.z ? nullptr : (const char*)s.z + (row * s.zStride + p.channel) * SIZE;
  char* y = (char*)s.y + (row * s.dInner + p.channel) * SIZE;
  const T *B = (const T*)s.B + row * s.BStride + p.group * s.dState, *C = SUMMARY ? nullptr : (const T*)s.C + row * s.CStride + p.group * s.dState;
  const bool alignedB = isAligned<T>(s.B, s.BStride, s.dState), alignedC = isAligned<T>(s.C, s.CStride, s.dState);
  const unsigned from = sharedAddress(&tile.barrier[before][0]), to = sharedAddress(&tile.barrier[w][0]);
  const T none = narrow<T>(0.f);
  float sum = 0.f;
  __syncthreads();
  // The state that the first warp starts from is there already.
  if (w == 0)
    for (int g = 0; g < GROUPS; g++) barrierArrive(from + g * 8);

  unsigned round = 0;
  for (i64 t0 = p.from; t0 < p.to; t0 += TOKENS, round++) {
    const int left = (int)min(p.to - t0 - w * K, (i64)K);  // tokens of this warp; none or fewer at the end
    const RingMarks marks = ringMarks<K>(s.marks, row0 + t0 + w * K, left);
    const bool full = p.whole && !marks.padded;
    float dt[K], du[K], acc[K];
    RingStates<T, K> b, c;
    b.load(B, s.BStride, alignedB, s.dState, marks.padded);
    if (!SUMMARY) c.load(C, s.CStride, alignedC, s.dState, marks.padded);
    const auto stage = [&](auto full) {
      T rawX[K], rawDelta[K];
#pragma unroll
      for (int k = 0; k < K; k++) {
        const bool there = full || (p.active && !(marks.padded >> k & 1));
        rawX[k] = there ? loadRow<T>(x, k, xStride) : none;
        rawDelta[k] = there ? loadRow<T>(delta, k, deltaStride) : none;
      }
#pragma unroll
      for (int k = 0; k < K; k++) {
        const bool there = full || (p.active && !(marks.padded >> k & 1));
        const float raw = widen(rawDelta[k]) + bias, own = widen(rawX[k]);
        dt[k] = stepOf<T>(raw, there, s.softplus);
        du[k] = dt[k] * own;
        acc[k] = D * own;
        if (SUMMARY) sum += dt[k];
      }
    };
    if (full) stage(True{});
    else stage(False{});
    if (SUMMARY && marks.resets) sum = INFINITY;
    __syncwarp();
    b.store(tile.B[w]);
    if (!SUMMARY) c.store(tile.C[w]);
    __syncwarp();
    float* keep = SAVING && left > 0 && p.active
                      ? s.saved + (p.batch * s.checkpoints + (t0 + w * K) / CHECKPOINT_OF<RING_STATES>) * s.dState * s.dInner + p.channel
                      : nullptr;
    const auto walk = [&](auto resets) {
#pragma unroll UNROLL
      for (int n0 = 0; n0 < RING_STATES; n0 += G) {
        if (n0 >= s.dState) break;
        float a[G], h[G];
#pragma unroll
        for (int g = 0; g < G; g++) a[g] = tile.A[n0 + g][lane];
        barrierWait(from + n0 / G * 8, round & 1);
#pragma unroll
        for (int g = 0; g < G; g++) h[g] = tile.carry[n0 + g][lane];
        if (SAVING && keep) {
#pragma unroll
          for (int g = 0; g < G; g++)
            if (n0 + g < s.dState) keep[(n0 + g) * s.dInner] = h[g];
        }
#pragma unroll
        for (int k0 = 0; k0 < K; k0 += 4) {
#pragma unroll
          for (int g = 0; g < G; g++) {
            float fourB[4], fourC[4];
            loadStates<4>(&tile.B[w][n0 + g][k0], fourB);
            if (!SUMMARY) loadStates<4>(&tile.C[w][n0 + g][k0], fourC);
#pragma unroll
            for (int j = 0; j < 4; j++) {
              const int k = k0 + j;
              const float decay = resets && (marks.resets >> k & 1) ? 0.f : ex2(dt[k] * a[g]);
              h[g] = h[g] * decay + du[k] * fourB[j];
              if (!SUMMARY) acc[k] += h[g] * fourC[j];
            }
          }
        }
#pragma unroll
        for (int g = 0; g < G; g++) tile.carry[n0 + g][lane] = h[g];
        __syncwarp();
        barrierArrive(to + n0 / G * 8);
      }
    };
    if (marks.resets) walk(True{});
    else walk(False{});
    x += TOKENS * xStride;
    delta += TOKENS * deltaStride;
    B += TOKENS * s.BStride;
    if constexpr (!SUMMARY) {
      const auto write = [&](auto full) {
        T gate[K];
#pragma unroll
        for (int k = 0; k < K; k++)
          if (z) gate[k] = full || (p.active && k < left) ? loadRow<T>(z, k, zStride) : none;
#pragma unroll
        for (int k = 0; k < K; k++) {
          float out = acc[k];
          if (z) {
            const float wide = widen(gate[k]);
            out *= wide * sigmoidOf(wide);
          }
          const bool padded = !full && (marks.padded >> k & 1);
          if (full || (p.active && k < left)) storeRow<T>(y, k, yStride, narrow<T>(padded ? 0.f : out));
        }
      };
      if (full) write(True{});
      else write(False{});
      C += TOKENS * s.CStride;
      if (z) z += TOKENS * zStride;
      y += TOKENS * yStride;
    }
  }
  if (SUMMARY) tile.sums[w][lane] = sum;
  __syncthreads();
  const bool first = !SUMMARY && !p.all && p.chunk == 0;
  if (p.active) {
    for (int n = w; n < s.dState; n += W) {
      const float h = tile.carry[n][lane];
      if (SUMMARY || first) s.ends[(p.part * s.dState + n) * s.dInner + p.channel] = h;
      if (!SUMMARY && p.to == s.length) s.final[(p.batch * s.dInner + p.channel) * s.dState + n] = h;
    }
    if (w == 0 && (SUMMARY || first)) {
      float all = first ? INFINITY : 0.f;
      if (SUMMARY)
        for (int q = 0; q < W; q++) all += tile.sums[q][lane];
      s.sums[p.part * s.dInner + p.channel] = all;
    }
  }
  if (SUMMARY || first) tellKnown(s, p);
}

// By index: blocks of whole lengths, first chunks, summaries, and what waits for these. CUDA does not promise that blocks start in this order. So a block waits only
// for chunks on which a block works that waits for nobody, and does itself what nobody has begun (two that do the same chunk write the same numbers).
template <class T, Pass PASS> __device__ __forceinline__ void scanRing(const Scan& s) {
  constexpr int W = 8, K = 16, G = 2;
  // The shuffle hides that all lanes have the same number: kept as such, it and all that follows from it leave the loop too few registers (measured).
  unsigned unit = __shfl_sync(~0u, blockIdx.x, threadIdx.x % 32), own = 0, piece = 0;
  const unsigned chunks = s.chunks;
  const bool all = unit < s.unsplit;
  if (!all) {
    const unsigned rest = unit - s.unsplit, split = (gridDim.x - s.unsplit) / (2 * chunks - 2);
    unit = s.unsplit + rest % split;
    piece = rest / split;
    own = piece < chunks - 1 ? piece : piece - (chunks - 2);
    if (piece < chunks - 1) tellBegun(s, unit, own);
  }
  const bool waits = piece >= chunks - 1 && !all;
  for (;;) {
    const unsigned chunk = waits ? awaitChunks(s, unit, own) : own;
    if (chunk > 0 && !(waits && chunk == own)) ring<T, W, K, G, 2, Pass::SUMMARY>(s, ringPlace(s, unit, chunk, false));
    else ring<T, W, K, G, 1, PASS>(s, ringPlace(s, unit, chunk, all));
    if (chunk == own) return;
    endBarriers<Ring<T, W, K, G>>();
  }
}

}  // namespace

#define RING(name, T)                                                                                                    \
  extern "C" __global__ void __launch_bounds__(256, 2) scan_ring_##name(Scan s) { scanRing<T, Pass::PLAIN>(s); }          \
  extern "C" __global__ void __launch_bounds__(256, 2) scan_ring_saving_##name(Scan s) { scanRing<T, Pass::SAVING>(s); }
static_assert(sizeof(Ring<float, 8, 16, 2>) == 22016, "what launches ask for");
RING(float32, float)
RING(bf16, bf16)
RING(f16, f16)
