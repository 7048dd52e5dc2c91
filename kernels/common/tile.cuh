// The product of some dozens of rows with a weight matrix as it is stored: y[m, n] = x[m, k] weight[n, k], x and weight bf16 or f16, sums float32; sm_90.
// A block of 8 warps takes 64 rows and N columns. The S blocks of a cluster share out k; each joins its part of the tile, in the order of their ranks.
// 64 elements of k at a time come into shared memory by cp.async, STAGES ahead: those of the weight before the kernels before are done.
// Through the second-level cache go 64 k (1 + 64 / N) elements for N columns; from memory, the weight once.
#pragma once
#include "skinny.cuh"

template <int N> constexpr int tileBytes(int stages) { return stages * (64 + N) * 128; }

__device__ __forceinline__ unsigned sharedAddress(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
// 16 bytes; zeros where `isThere` is false.
__device__ __forceinline__ void copyAhead(unsigned to, const void* from, bool isThere) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(isThere ? 16 : 0) : "memory");
}
__device__ __forceinline__ void loadMatrices(unsigned (&into)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(into[0]), "=r"(into[1]), "=r"(into[2]), "=r"(into[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ float loadFrom(unsigned address, int rank) {
  float value;
  asm volatile("{ .reg .u32 there; mapa.shared::cluster.u32 there, %1, %2; ld.shared::cluster.f32 %0, [there]; }" : "=f"(value) : "r"(address), "r"(rank) : "memory");
  return value;
}
__device__ __forceinline__ void clusterArrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ __forceinline__ void clusterWait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

// `put(row, column, sum, what)` gets each element once, with what `ahead(row, column)` fetched for it; `warm(row, column)` may ask for that before the
// kernels before are done. k is a multiple of 64; blockIdx.x / S is the tile's column, blockIdx.y its row.
template <class W, int N, int S, int STAGES, class P, class A, class F>
__device__ __forceinline__ void tile(const W* x, i64 xStride, const W* weight, int m, int n, int k, char* memory, P warm, A ahead, F put) {
#if __CUDA_ARCH__ >= 900
  letNext();
  constexpr int SIZE = 64 * N, OWN = SIZE / S, EACH = OWN / 256, STAGE = (64 + N) * 128, PAIRS = N / 32;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, rank = blockIdx.x % S;
  const int n0 = (int)(blockIdx.x / S) * N, m0 = blockIdx.y * 64, all = k / 64, first = all * rank / S, count = all * (rank + 1) / S - first;
  const unsigned base = sharedAddress(memory);
  // Row r has its c-th 16 bytes at (c ^ r % 8): neither writing rows nor reading eight of them meets a bank twice.
  const int part = threadIdx.x % 8, row = threadIdx.x / 8, placed = row * 128 + ((part ^ row % 8) << 4);
  const auto loadWeight = [&](int stage, int chunk) {
#pragma unroll
    for (int i = 0; i < N / 32; i++) {
      const int at = n0 + row + 32 * i;
      copyAhead(base + stage * STAGE + 8192 + placed + 4096 * i, weight + (i64)min(at, n - 1) * k + 64 * chunk + 8 * part, at < n);
    }
  };
  const auto loadRows = [&](int stage, int chunk) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int at = m0 + row + 32 * i;
      copyAhead(base + stage * STAGE + placed + 4096 * i, x + (i64)min(at, m - 1) * xStride + 64 * chunk + 8 * part, at < m);
    }
  };
  const auto commit = [] { asm volatile("cp.async.commit_group;" ::: "memory"); };
#pragma unroll
  for (int s = 0; s < STAGES; s++)
    if (s < count) loadWeight(s, first + s);
#pragma unroll
  for (int e = 0; e < EACH; e++) {
    const int at = rank * OWN + threadIdx.x + 256 * e;
    if (m0 + at / N < m && n0 + at % N < n) warm(m0 + at / N, n0 + at % N);
  }
  awaitPrevious();
#pragma unroll
  for (int s = 0; s < STAGES; s++) {
    if (s < count) loadRows(s, first + s);
    commit();
  }
  // A warp takes 32 rows, N / 2 columns, and every other 32 elements of k.
  const int group = lane / 8, in = lane % 8, half = warp / 4, down = warp % 2 * 32, across = warp / 2 % 2 * (N / 2);
  const int rowA = down + group % 2 * 8 + in, rowB = across + group / 2 * 8 + in;
  float sums[2][2 * PAIRS][4] = {};
  for (int i = 0; i < count; i++) {
    asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 1) : "memory");
    __syncthreads();
    if (i > 0 && i - 1 + STAGES < count) {
      loadWeight((i - 1) % STAGES, first + i - 1 + STAGES);
      loadRows((i - 1) % STAGES, first + i - 1 + STAGES);
    }
    commit();
    const unsigned stage = base + i % STAGES * STAGE;
#pragma unroll
    for (int step = 0; step < 2; step++) {
      const int at = 2 * (2 * half + step);
      unsigned a[2][4], b[PAIRS][4];
#pragma unroll
      for (int i = 0; i < 2; i++) loadMatrices(a[i], stage + (rowA + 16 * i) * 128 + (((at + group / 2) ^ in) << 4));
#pragma unroll
      for (int j = 0; j < PAIRS; j++) loadMatrices(b[j], stage + 8192 + (rowB + 16 * j) * 128 + (((at + group % 2) ^ in) << 4));
#pragma unroll
      for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < PAIRS; j++) {
          mma<W>(sums[i][2 * j], a[i][0], a[i][1], a[i][2], a[i][3], b[j][0], b[j][1]);
          mma<W>(sums[i][2 * j + 1], a[i][0], a[i][1], a[i][2], a[i][3], b[j][2], b[j][3]);
        }
    }
  }
  asm volatile("cp.async.wait_all;" ::: "memory");
  __syncthreads();
  float* parts = (float*)memory;
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int j = 0; j < 2 * PAIRS; j++)
#pragma unroll
      for (int h = 0; h < 2; h++)
        *(float2*)(parts + half * SIZE + (down + 16 * i + 8 * h + lane / 4) * N + across + 8 * j + 2 * (lane % 4)) =
            make_float2(sums[i][j][2 * h], sums[i][j][2 * h + 1]);
  if (S == 1) __syncthreads();
  else clusterArrive(), clusterWait();
  float joined[EACH];
#pragma unroll
  for (int e = 0; e < EACH; e++) {
    const int at = rank * OWN + threadIdx.x + 256 * e;
    if (S == 1) joined[e] = parts[at] + parts[SIZE + at];
    else {
      joined[e] = 0;
#pragma unroll
      for (int r = 0; r < S; r++) joined[e] += loadFrom(base + 4 * at, r) + loadFrom(base + 4 * (SIZE + at), r);
    }
  }
  // Nobody leaves while others read what is his.
  if (S > 1) clusterArrive();
  constexpr int BATCH = EACH < 4 ? EACH : 4;
#pragma unroll
  for (int e0 = 0; e0 < EACH; e0 += BATCH) {
    decltype(ahead(0, 0)) what[BATCH];
#pragma unroll
    for (int e = 0; e < BATCH; e++) {
      const int at = rank * OWN + threadIdx.x + 256 * (e0 + e);
      if (m0 + at / N < m && n0 + at % N < n) what[e] = ahead(m0 + at / N, n0 + at % N);
    }
#pragma unroll
    for (int e = 0; e < BATCH; e++) {
      const int at = rank * OWN + threadIdx.x + 256 * (e0 + e);
      if (m0 + at / N < m && n0 + at % N < n) put(m0 + at / N, n0 + at % N, joined[e0 + e], what[e]);
    }
  }
  if (S > 1) clusterWait();
#endif
}
