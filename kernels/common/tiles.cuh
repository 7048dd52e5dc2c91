// The product of 64 rows a block with a weight matrix as it is stored: y[m, n] = x[m, k] weight[n, k], x and weight bf16 or f16, sums float32; sm_90a.
// Tiles of 64 elements of k come into shared memory by the copy engine, STAGES ahead, those of the weight before the kernels before are done; wgmma
// takes both factors from there. A block is two warpgroups of half the tile's COLUMNS each and
// warps that copy in turn: one alone asks for a tile in 0.3 us, of whatever size. Of the S P blocks of a cluster P take
// columns next to each other: each copies its part of the rows' tiles to all of them; and S share out k and send their sums to the one of them that puts
// a row, which joins them in the order of ranks.
// From memory comes the weight once; through the second-level cache, beside it, m k elements for every P COLUMNS columns.
#pragma once
#include "chain.cuh"
#include "types.cuh"

constexpr int TILE_ROWS = 64, TILE_K = 64, TILE_WORKERS = 256, TILE_COPIERS = 4, TILE_THREADS = TILE_WORKERS + 32 * TILE_COPIERS;

__device__ __forceinline__ int clusterSize() {
  int n;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(n));
  return n;
}
__device__ __forceinline__ int clusterRank() {
  int n;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(n));
  return n;
}
__device__ __forceinline__ void clusterArrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ __forceinline__ void clusterWait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
__device__ __forceinline__ unsigned sharedAddress(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
// To the same place of the block of that rank.
__device__ __forceinline__ void send(unsigned address, int rank, float2 v) {
  asm volatile("{ .reg .u32 there; mapa.shared::cluster.u32 there, %0, %1; st.shared::cluster.v2.f32 [there], {%2, %3}; }" ::"r"(address), "r"(rank), "f"(v.x), "f"(v.y)
               : "memory");
}
// The address of the same place in the block of that rank.
__device__ __forceinline__ unsigned placeIn(unsigned address, int rank) {
  unsigned there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  return there;
}
__device__ __forceinline__ float4 fourOf(const float* p) { return *(const float4*)p; }
__device__ __forceinline__ void addTo(float4& a, float4 b) { a.x += b.x, a.y += b.y, a.z += b.z, a.w += b.w; }

// Barriers of shared memory that count arrivals, and bytes on their way.
__device__ __forceinline__ void barrierInit(unsigned bar, int count) { asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(bar), "r"(count) : "memory"); }
__device__ __forceinline__ void barrierExpect(unsigned bar, int bytes) {
  asm volatile("{ .reg .b64 state; mbarrier.arrive.expect_tx.shared.b64 state, [%0], %1; }" ::"r"(bar), "r"(bytes) : "memory");
}
// Of any block of the cluster.
__device__ __forceinline__ void barrierArrive(unsigned bar) { asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(bar) : "memory"); }
__device__ __forceinline__ void barrierWait(unsigned bar, int parity) {
  asm volatile("{ .reg .pred done; again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; @!done bra again; }" ::"r"(bar), "r"(parity) : "memory");
}
// A box of the tensor that `map` describes, from (column, row) on.
__device__ __forceinline__ void copyTile(unsigned to, const void* map, int column, int row, unsigned bar) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(to), "l"(map), "r"(column), "r"(row), "r"(bar)
               : "memory");
}
// The same, to the blocks of the cluster whose bits `mask` has.
__device__ __forceinline__ void copyTileTo(unsigned to, const void* map, int column, int row, unsigned bar, int mask) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to), "l"(map),
               "r"(column), "r"(row), "r"(bar), "h"((short)mask)
               : "memory");
}

// Rows of 128 bytes, eight of them an atom whose 16-byte pieces are swizzled; atoms 1024 bytes apart.
__device__ __forceinline__ unsigned long long tileDescriptor(unsigned address) { return (address & 0x3FFFFull) >> 4 | 1ull << 16 | 64ull << 32 | 1ull << 62; }
template <class W> struct Wgmma;
#define ACCUMULATORS8(c) "+f"((c)[0]), "+f"((c)[1]), "+f"((c)[2]), "+f"((c)[3]), "+f"((c)[4]), "+f"((c)[5]), "+f"((c)[6]), "+f"((c)[7])
#define WGMMA_TYPE(W, name)                                                                                                                               \
  template <> struct Wgmma<W> {                                                                                                                           \
    static __device__ __forceinline__ void run(float (&c)[4], unsigned long long a, unsigned long long b) {                                              \
      asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32." name "." name " {%0,%1,%2,%3}, %4, %5, 1, 1, 1, 0, 0;"                                 \
                   : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "l"(a), "l"(b));                                                                    \
    }                                                                                                                                                     \
    static __device__ __forceinline__ void run(float (&c)[8], unsigned long long a, unsigned long long b) {                                              \
      asm volatile("wgmma.mma_async.sync.aligned.m64n16k16.f32." name "." name " {%0,%1,%2,%3,%4,%5,%6,%7}, %8, %9, 1, 1, 1, 0, 0;"                     \
                   : ACCUMULATORS8(c) : "l"(a), "l"(b));                                                                                                  \
    }                                                                                                                                                     \
    static __device__ __forceinline__ void run(float (&c)[16], unsigned long long a, unsigned long long b) {                                             \
      asm volatile("wgmma.mma_async.sync.aligned.m64n32k16.f32." name "." name                                                                           \
                   " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, %16, %17, 1, 1, 1, 0, 0;"                                                  \
                   : ACCUMULATORS8(c), ACCUMULATORS8(c + 8) : "l"(a), "l"(b));                                                                            \
    }                                                                                                                                                     \
    static __device__ __forceinline__ void run(float (&c)[32], unsigned long long a, unsigned long long b) {                                             \
      asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." name "." name                                                                           \
                   " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, %32, %33," \
                   " 1, 1, 1, 0, 0;"                                                                                                                      \
                   : ACCUMULATORS8(c), ACCUMULATORS8(c + 8), ACCUMULATORS8(c + 16), ACCUMULATORS8(c + 24) : "l"(a), "l"(b));                              \
    }                                                                                                                                                     \
  };
WGMMA_TYPE(bf16, "bf16")
WGMMA_TYPE(f16, "f16")

// Bytes of shared memory: the stages, from a multiple of 1,024 on, and what the blocks of the cluster send.
__host__ __device__ constexpr int tileStage(int columns) { return (TILE_ROWS + columns) * TILE_K * 2; }
__host__ __device__ constexpr int tileBytes(int columns, int stages) { return 1024 + stages * tileStage(columns) + TILE_ROWS * (columns + 8) * 4; }

// How a product is shared out: P blocks of a cluster of S P beside each other, tiles of k on their way.
struct Tiling {
  const void *x, *weight;  // descriptions of x[m, k] and weight[n, k], in boxes of 64 / P x 64 and COLUMNS x 64
  i64 pairs, stages;
};
// `put(row, column, sums, what)` gets four columns at a time, with what `ahead(row, column)` fetched for them: where IS_SETTLED, before the kernels before
// are done; else the next kernel may start only then, which ends the chain. n is a multiple of 4, k of 64 S; S divides 64.
template <class W, int COLUMNS, bool IS_SETTLED, class P, class A, class F>
__device__ __forceinline__ void tiles(const Tiling& t, int m, int n, int k, P early, A ahead, F put) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int HALF = COLUMNS / 2, FOURS = COLUMNS / 4, PITCH = COLUMNS + 8, STAGE = tileStage(COLUMNS), MOST_STAGES = 32, X_BYTES = TILE_ROWS * TILE_K * 2;
  extern __shared__ char memory[];
  __shared__ __align__(8) unsigned long long full[MOST_STAGES], empty[MOST_STAGES];
  const int pairs = (int)t.pairs, stages = (int)t.stages, both = clusterSize(), size = both / pairs, own = clusterRank(), rank = own / pairs, pair = own % pairs;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int n0 = (int)(blockIdx.x / both * pairs + pair) * COLUMNS, m0 = blockIdx.y * TILE_ROWS, count = k / TILE_K / size, first = rank * count;
  const unsigned base = (sharedAddress(memory) + 1023) / 1024 * 1024, fullAt = sharedAddress(full), emptyAt = sharedAddress(empty);
  float* received = (float*)(memory + (base - sharedAddress(memory)) + stages * STAGE);
  if (threadIdx.x == TILE_WORKERS) {
    for (int s = 0; s < stages; s++) barrierInit(fullAt + 8 * s, 1), barrierInit(emptyAt + 8 * s, pairs * TILE_WORKERS / 32);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  // Nobody is sent anything before he is there.
  if (both > 1) clusterArrive(), clusterWait();
  else __syncthreads();
  const int rows = min(TILE_ROWS, m - m0), share = TILE_ROWS / size;
  if (warp >= TILE_WORKERS / 32) {
    const int turn = warp - TILE_WORKERS / 32;
    if (lane == 0) {
      const auto copyWeight = [&](int i, int s) {
        barrierExpect(fullAt + 8 * s, STAGE);
        copyTile(base + s * STAGE + X_BYTES, t.weight, (first + i) * TILE_K, n0, fullAt + 8 * s);
      };
      for (int i = turn; i < min(stages, count); i += TILE_COPIERS) copyWeight(i, i);
      awaitPrevious();
      if (!IS_SETTLED) letNext();
      for (int i = turn, s = turn, parity = 1; i < count; i += TILE_COPIERS) {
        if (i >= stages) {
          barrierWait(emptyAt + 8 * s, parity);
          copyWeight(i, s);
        }
        const unsigned to = base + s * STAGE + pair * (X_BYTES / pairs);
        if (pairs == 1) copyTile(to, t.x, (first + i) * TILE_K, m0, fullAt + 8 * s);
        else copyTileTo(to, t.x, (first + i) * TILE_K, m0 + pair * (TILE_ROWS / pairs), fullAt + 8 * s, ((1 << pairs) - 1) << rank * pairs);
        for (s += TILE_COPIERS; s >= stages; s -= stages) parity ^= 1;
      }
    }
    __syncwarp();
  }
  // This block puts `share` rows, four columns a thread.
  constexpr int BATCH = 4;
  const int end = warp < TILE_WORKERS / 32 ? min(share, rows - rank * share) * FOURS : 0;
  decltype(ahead(0, 0)) what[BATCH];
  const auto fetchBatch = [&](int i0) {
#pragma unroll
    for (int e = 0; e < BATCH; e++) {
      const int i = i0 + TILE_WORKERS * e, column = n0 + 4 * (i % FOURS);
      if (i < end && column < n) what[e] = ahead(m0 + rank * share + i / FOURS, column);
    }
  };
  if (warp < TILE_WORKERS / 32) {
    early(n0);
    if (!IS_SETTLED) awaitPrevious(), letNext();
    fetchBatch(threadIdx.x);
    float sums[HALF / 2] = {};
    const unsigned mine = X_BYTES + warp / 4 * HALF * TILE_K * 2;
    for (int i = 0, s = 0, parity = 0; i < count; i++) {
      barrierWait(fullAt + 8 * s, parity);
      const unsigned long long a = tileDescriptor(base + s * STAGE), b = tileDescriptor(base + s * STAGE + mine);
      asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
      for (int j = 0; j < TILE_K / 16; j++) Wgmma<W>::run(sums, a + 2 * j, b + 2 * j);
      asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
      // The tile before is read: its place may be filled again, where something comes into it.
      asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
      if (i > 0 && i - 1 + stages < count && lane < pairs) barrierArrive(placeIn(emptyAt + 8 * (s == 0 ? stages - 1 : s - 1), rank * pairs + lane));
      if (++s == stages) s = 0, parity ^= 1;
    }
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    const int q = lane % 4, r = 16 * (warp % 4) + lane / 4;
#pragma unroll
    for (int j = 0; j < HALF / 8; j++)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        const int row = r + 8 * h;
        const unsigned to = sharedAddress(received + (rank * share + row % share) * PITCH + warp / 4 * HALF + 8 * j + 2 * q);
        const float2 v = make_float2(sums[4 * j + 2 * h], sums[4 * j + 2 * h + 1]);
        if (size > 1) send(to, row / share * pairs + pair, v);
        else *(float2*)(received + row * PITCH + warp / 4 * HALF + 8 * j + 2 * q) = v;
      }
  }
  if (size > 1) clusterArrive(), clusterWait();
  else __syncthreads();
  for (int i0 = threadIdx.x; i0 < end; i0 += TILE_WORKERS * BATCH) {
    if (i0 != threadIdx.x) fetchBatch(i0);
#pragma unroll
    for (int e = 0; e < BATCH; e++) {
      const int i = i0 + TILE_WORKERS * e, row = i / FOURS, column = 4 * (i % FOURS);
      if (i >= end || n0 + column >= n) continue;
      float4 sum = fourOf(received + row * PITCH + column);
      for (int p = 1; p < size; p++) addTo(sum, fourOf(received + (p * share + row) * PITCH + column));
      put(m0 + rank * share + row, n0 + column, sum, what[e]);
    }
  }
#endif
}
