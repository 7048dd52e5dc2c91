// The product of 64 rows a block with a weight matrix as it is stored: y[m, n] = x[m, k] weight[n, k], x and weight bf16 or f16, sums float32; sm_90a.
// Tiles of 64 elements of k come into shared memory by the copy engine, `stages` ahead, those of the weight before the kernels before are done; wgmma takes
// both factors from there. A block is two warpgroups of half the tile's COLUMNS each and warps that copy in turn: one alone asks for a tile in 0.3 us, of
// whatever size. The blocks of a cluster share out k and send their sums to the one of them that puts a row, which joins them in the order of ranks.
// From memory comes the weight once; through the second-level cache, beside it, m k elements for every COLUMNS columns.
#pragma once
#include "chain.cuh"
#include "hopper.cuh"
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
__device__ __forceinline__ void clusterSync() { asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory"); }
// To the same place of the block of that rank.
__device__ __forceinline__ void send(unsigned address, int rank, float2 v) {
  asm volatile("{ .reg .u32 there; mapa.shared::cluster.u32 there, %0, %1; st.shared::cluster.v2.f32 [there], {%2, %3}; }" ::"r"(address), "r"(rank), "f"(v.x), "f"(v.y)
               : "memory");
}
__device__ __forceinline__ float4 fourOf(const float* p) { return *(const float4*)p; }
__device__ __forceinline__ void addTo(float4& a, float4 b) { a.x += b.x, a.y += b.y, a.z += b.z, a.w += b.w; }

// What the copy engine knows of a tensor.
struct alignas(64) TensorMap {
  char bytes[128];
};
// x[m, k] in boxes of 64 x 64; weight[n, k] in boxes of COLUMNS x 64, or in two parts [2, n, k] in boxes of 2 x COLUMNS / 2 x 64.
struct Tiling {
  TensorMap x, weight;
};

// At least TILE_COPIERS stages and at most 32; shared memory for them, from a multiple of 1,024 bytes on, and for the sums [64][COLUMNS + 8].
// `put(row, column, sums, what)` gets four columns at a time, with what `ahead(row, column)` fetched for them, before the kernels before are done unless it WAITS;
// `early(column)` is called before that, with the block's first; `ready()` when the kernels before are done, by all workers, before anything is put. Columns of the second part go on behind the n of the first. n is a multiple of 4, in two parts of COLUMNS / 2;
// k of 64 times the cluster's size, which divides 64.
template <class W, int COLUMNS, bool IN_PARTS, bool WAITS, class P, class A, class R, class F>
__device__ __forceinline__ void tiles(const Tiling& t, int stages, int m, int n, int k, P early, A ahead, R ready, F put) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int HALF = COLUMNS / 2, FOURS = COLUMNS / 4, PITCH = COLUMNS + 8, X_BYTES = TILE_ROWS * TILE_K * 2, STAGE = X_BYTES + COLUMNS * TILE_K * 2, MOST_STAGES = 32;
  extern __shared__ char memory[];
  __shared__ __align__(8) unsigned long long full[MOST_STAGES], empty[MOST_STAGES];
  const int size = clusterSize(), rank = clusterRank(), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int n0 = (int)blockIdx.x / size * (IN_PARTS ? HALF : COLUMNS), m0 = blockIdx.y * TILE_ROWS, count = k / TILE_K / size, first = rank * count;
  const unsigned base = (sharedAddress(memory) + 1023) / 1024 * 1024, fullAt = sharedAddress(full), emptyAt = sharedAddress(empty);
  float* received = (float*)(memory + (base - sharedAddress(memory)) + stages * STAGE);
  if (threadIdx.x == TILE_WORKERS) {
    for (int s = 0; s < stages; s++) barrierInit(fullAt + 8 * s, 1), barrierInit(emptyAt + 8 * s, TILE_WORKERS / 32);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  // Nobody is sent anything before he is there.
  if (size > 1) clusterSync();
  else __syncthreads();
  if (warp >= TILE_WORKERS / 32) {
    const int turn = warp - TILE_WORKERS / 32;
    if (lane == 0) {
      const unsigned long long once = readOnce(), again = readAgain();
      const auto copyWeight = [&](int i, int s) {
        const unsigned to = base + s * STAGE + X_BYTES, bar = fullAt + 8 * s;
        barrierExpect(bar, STAGE);
        if (IN_PARTS) copyParts(to, &t.weight, (first + i) * TILE_K, n0, bar, once);
        else copyTile(to, &t.weight, (first + i) * TILE_K, n0, bar, once);
      };
      for (int i = turn; i < min(stages, count); i += TILE_COPIERS) copyWeight(i, i);
      awaitPrevious();
      for (int i = turn, s = turn, parity = 1; i < count; i += TILE_COPIERS) {
        if (i >= stages) {
          barrierWait(emptyAt + 8 * s, parity);
          copyWeight(i, s);
        }
        copyTile(base + s * STAGE, &t.x, (first + i) * TILE_K, m0, fullAt + 8 * s, again);
        for (s += TILE_COPIERS; s >= stages; s -= stages) parity ^= 1;
      }
    }
    __syncwarp();
  }
  // This block puts `own` rows, four columns a thread: all of one part, then of the other.
  constexpr int BATCH = 4, PARTS = IN_PARTS ? 2 : 1, FOURS_EACH = FOURS / PARTS;
  const int share = TILE_ROWS / size, own = max(0, min(share, m - m0 - rank * share)), end = warp < TILE_WORKERS / 32 ? own * FOURS : 0;
  struct Place {
    int row, four, column;
  };
  const auto placeOf = [&](int i) {
    const int part = IN_PARTS && i >= own * FOURS_EACH, j = i - part * own * FOURS_EACH, four = j % FOURS_EACH, column = n0 + 4 * four;
    return Place{j / FOURS_EACH, part * FOURS_EACH + four, i < end && column < n ? part * n + column : -1};
  };
  decltype(ahead(0, 0)) what[BATCH];
  const auto fetchBatch = [&](int i0) {
#pragma unroll
    for (int e = 0; e < BATCH; e++) {
      const Place p = placeOf(i0 + TILE_WORKERS * e);
      if (p.column >= 0) what[e] = ahead(m0 + rank * share + p.row, p.column);
    }
  };
  if (warp < TILE_WORKERS / 32) {
    early(n0);
    if (WAITS) awaitPrevious();
    fetchBatch(threadIdx.x);
    float sums[HALF / 2] = {};
    const unsigned mine = X_BYTES + warp / 4 * HALF * TILE_K * 2;
    for (int i = 0, s = 0, parity = 0; i < count; i++) {
      barrierWait(fullAt + 8 * s, parity);
      const unsigned long long a = tileDescriptor(base + s * STAGE), b = tileDescriptor(base + s * STAGE + mine);
      wgmmaFence();
#pragma unroll
      for (int j = 0; j < TILE_K / 16; j++) Wgmma<W>::run(sums, a + 2 * j, b + 2 * j);
      wgmmaCommit();
      // The tile before is read: its place may be filled again, where something comes into it.
      wgmmaWait<1>();
      if (i > 0 && i - 1 + stages < count && lane == 0) barrierArrive(emptyAt + 8 * (s == 0 ? stages - 1 : s - 1));
      if (++s == stages) s = 0, parity ^= 1;
    }
    wgmmaWait<0>();
    ready();
    const int q = lane % 4, r = 16 * (warp % 4) + lane / 4;
#pragma unroll
    for (int j = 0; j < HALF / 8; j++)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        const int row = r + 8 * h;
        float* to = received + (rank * share + row % share) * PITCH + warp / 4 * HALF + 8 * j + 2 * q;
        const float2 v = make_float2(sums[4 * j + 2 * h], sums[4 * j + 2 * h + 1]);
        if (size > 1) send(sharedAddress(to), row / share, v);
        else *(float2*)to = v;
      }
  }
  if (size > 1) clusterSync();
  else __syncthreads();
  for (int i0 = threadIdx.x; i0 < end; i0 += TILE_WORKERS * BATCH) {
    if (i0 != threadIdx.x) fetchBatch(i0);
#pragma unroll
    for (int e = 0; e < BATCH; e++) {
      const Place p = placeOf(i0 + TILE_WORKERS * e);
      if (p.column < 0) continue;
      float4 sum = fourOf(received + p.row * PITCH + 4 * p.four);
      for (int from = 1; from < size; from++) addTo(sum, fourOf(received + (from * share + p.row) * PITCH + 4 * p.four));
      put(m0 + rank * share + p.row, p.column, sum, what[e]);
    }
  }
#endif
}
