// What the scan's ring kernels share (README.md beside this): a block covers 32 channels, a lane each, and its warps divide the tokens of a tile. Warp w
// takes the states one group after the other, each group as soon as the warp before it has handed on the state that its tokens leave behind (a state has one owner
// at a time, and one place). So the warps work on different groups at any time, every exp is computed once, and nothing waits for a whole block.
#pragma once
#include <type_traits>
#include "selective_scan.cuh"

constexpr int RING_STATES = 16, RING_CHANNELS = 32;

// Barriers in shared memory: all lanes of a warp arrive at its own, each with what it has written; the next warp waits for the phase that its round needs. (One
// lane's arrival after a warp barrier would do, and takes as long; but compute-sanitizer does not follow it.)
__device__ __forceinline__ unsigned sharedAddress(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
__device__ __forceinline__ void barrierInit(unsigned at) { asm volatile("mbarrier.init.shared.b64 [%0], 32;" ::"r"(at) : "memory"); }
__device__ __forceinline__ void barrierEnd(unsigned at) { asm volatile("mbarrier.inval.shared.b64 [%0];" ::"r"(at) : "memory"); }
__device__ __forceinline__ void barrierArrive(unsigned at) {
  asm volatile("{\n.reg .b64 token;\nmbarrier.arrive.shared.b64 token, [%0];\n}" ::"r"(at) : "memory");
}
__device__ __forceinline__ bool barrierTest(unsigned at, unsigned parity) {
  unsigned done;
#if __CUDA_ARCH__ >= 900
  asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}" : "=r"(done) : "r"(at), "r"(parity) : "memory");
#else
  asm volatile("{\n.reg .pred p;\nmbarrier.test_wait.parity.shared.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}" : "=r"(done) : "r"(at), "r"(parity) : "memory");
#endif
  return done;
}
__device__ __forceinline__ void barrierWait(unsigned at, unsigned parity) {
  while (!barrierTest(at, parity)) {}
}

// Element `k` rows of `stride` bytes after `base`: the address is one multiply-add.
template <class T> __device__ __forceinline__ T loadRow(const char* base, unsigned k, unsigned stride) {
  unsigned long long at;
  asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(at) : "r"(stride), "r"(k), "l"(base));
  if constexpr (sizeof(T) == 4) return __ldg(reinterpret_cast<const T*>(at));
  const unsigned short v = __ldg(reinterpret_cast<const unsigned short*>(at));
  return *reinterpret_cast<const T*>(&v);
}
template <class T> __device__ __forceinline__ void storeRow(char* base, unsigned k, unsigned stride, T v) {
  unsigned long long at;
  asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(at) : "r"(stride), "r"(k), "l"(base));
  if constexpr (sizeof(T) == 4) __stwb(reinterpret_cast<T*>(at), v);
  else __stwb(reinterpret_cast<unsigned short*>(at), *reinterpret_cast<unsigned short*>(&v));
}

// Four bytes from global to shared memory, on their way until waited for.
__device__ __forceinline__ void copyAsync(float* to, const float* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(sharedAddress(to)), "l"(from) : "memory");
}
__device__ __forceinline__ void copyWait() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// Where a thread works. Blocks along x never span two groups.
struct RingPlace {
  i64 batch, part, from, to;
  unsigned unit, group, block, channel, lane, warp, chunk;
  // Channels beyond the last one; whether all lanes have one; whether the block takes the whole length.
  bool active, whole, all;
};
// The block of the whole length (`unit`) and its chunk; `all` if it is not cut.
__device__ __forceinline__ RingPlace ringPlace(const Scan& s, unsigned unit, unsigned chunk, bool all) {
  RingPlace p;
  const unsigned groups = s.groups, perGroup = (unsigned)s.dInner / groups, blocks = (perGroup + RING_CHANNELS - 1) / RING_CHANNELS;
  const unsigned at = unit % (blocks * groups);
  p.unit = unit;
  p.all = all;
  p.batch = unit / (blocks * groups);
  p.chunk = chunk;
  p.part = p.batch * s.chunks + chunk;
  const i64 end = (chunk + 1) * s.chunkLength - s.shift;
  p.from = all || chunk == 0 ? 0 : end - s.chunkLength;
  p.to = all ? s.length : min(s.length, end);
  p.group = at / blocks;
  p.block = at % blocks;
  p.lane = threadIdx.x % 32;
  p.warp = threadIdx.x / 32;
  p.channel = p.group * perGroup + p.block * RING_CHANNELS + p.lane;
  p.active = p.channel < (p.group + 1) * perGroup;
  p.whole = (p.block + 1) * RING_CHANNELS <= perGroup;
  return p;
}
// Backward, of a row of blocks: the first `unsplit` (none in a summary) take the whole length; of the others each takes one of `chunks` chunks, all channels' last
// ones first, for they need not wait for a summary.
__device__ __forceinline__ RingPlace backwardPlace(const Scan& s, unsigned unsplit, unsigned chunks) {
  const bool all = blockIdx.x < unsplit;
  const unsigned rest = blockIdx.x - unsplit, split = (gridDim.x - unsplit) / chunks;
  return ringPlace(s, all ? blockIdx.x : s.unsplit + rest % split, s.chunks - 1 - (all ? 0 : rest / split), all);
}

// The marks of a warp's K tokens, a bit each: those that start a sequence, and padding (what lies beyond the chunk too).
struct RingMarks {
  unsigned resets = 0, padded = 0;
};
template <int K> __device__ __forceinline__ RingMarks ringMarks(const int* marks, i64 row, int left) {
  RingMarks m;
  const int lane = threadIdx.x % 32, mark = lane >= K ? 0 : lane >= left ? -1 : marks ? marks[row + lane] : 0;
  m.padded = __ballot_sync(~0u, mark < 0);
  m.resets = __ballot_sync(~0u, mark > 0);
  return m;
}

// Four neighbouring states of B or C at a time: `at` is where those of the first token of the warp begin. Rows that are not aligned for that are read one by one.
template <class T, int K> struct RingStates {
  static constexpr int EACH = K * RING_STATES / 4 / 32;
  T v[EACH][4];
  __device__ __forceinline__ void load(const T* at, i64 stride, bool aligned, int dState, unsigned padded) {
#pragma unroll
    for (int e = 0; e < EACH; e++) {
      const int i = threadIdx.x % 32 + e * 32, k = i / (RING_STATES / 4), n = i % (RING_STATES / 4) * 4;
      const bool there = !(padded >> k & 1);
      if (aligned) {
        using Four = typename std::conditional<sizeof(T) == 4, float4, uint2>::type;
        *reinterpret_cast<Four*>(v[e]) = there ? *reinterpret_cast<const Four*>(at + k * stride + n) : Four{};
      } else {
#pragma unroll
        for (int j = 0; j < 4; j++) v[e][j] = there && n + j < dState ? at[k * stride + n + j] : narrow<T>(0.f);
      }
    }
  }
  __device__ __forceinline__ void store(float (&to)[RING_STATES][K]) const {
#pragma unroll
    for (int e = 0; e < EACH; e++) {
      const int i = threadIdx.x % 32 + e * 32, k = i / (RING_STATES / 4), n = i % (RING_STATES / 4) * 4;
#pragma unroll
      for (int j = 0; j < 4; j++) to[n + j][k] = widen(v[e][j]);
    }
  }
};
template <class T> __device__ __forceinline__ bool isAligned(const void* p, i64 stride, i64 dState) {
  return dState == RING_STATES && (reinterpret_cast<unsigned long long>(p) | (unsigned long long)stride * sizeof(T)) % (4 * sizeof(T)) == 0;
}
