// What the scan's two directions share.
#pragma once
#include "../common/types.cuh"

constexpr float LOG2E = 1.4426950408889634f;
// Blocks of eight lanes a channel are larger, so that a block still covers 32 channels.
template <int LANES> constexpr int THREADS_OF = LANES == 8 ? 256 : 128;
// Tokens between the states that the forward pass keeps for the backward pass, whose tiles they are: with many states fewer fit into shared memory.
template <int STATES> constexpr int CHECKPOINT_OF = STATES > 128 ? 8 : 16;

// All that one launch reads and writes; every member takes eight bytes. Null where there is none.
struct Scan {
  const void *x, *delta, *B, *C, *z;
  const float *A, *D, *bias, *initial;
  const int* marks;
  i64 xStride, deltaStride, BStride, CStride, zStride;
  i64 batch, length, dInner, dState, groups, softplus;
  // Chunks but the first begin `shift` tokens earlier than at multiples of their length, and the first one is that much shorter.
  i64 chunks, chunkLength, shift, checkpoints, firstChunk, unsplit;
  // Of the ring, forward, zero before each launch: whether a chunk has been begun, and whether it is known what it does to the state [block of the whole length, chunk].
  unsigned* known;
  void* y;
  float *final, *saved;
  // What chunks do to the state: their ends from a start of zero [batch, chunk, dState, dInner], and the sums of their steps [batch, chunk, dInner].
  float *ends, *sums;
  // Backward only.
  const void* gy;
  const float* gFinal;
  void *gx, *gDelta, *gz;
  float *gA, *gD, *gBias, *gInitial, *gBC;
};

// A pass lets the next one start beside it (programmatic dependent launch), which waits where it needs what this one leaves.
__device__ __forceinline__ void letNextStart() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ __forceinline__ void awaitPass() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// X(name, T, lanes, states a lane): lanes * states is the largest dState of the variant. Up to 16 the kernels of scan_ring*.cu are used.
#define EACH_SCAN_OF(X, name, T) X(name, T, 8, 4) X(name, T, 16, 8) X(name, T, 16, 16)
#define EACH_SCAN(X) EACH_SCAN_OF(X, float32, float) EACH_SCAN_OF(X, bf16, bf16) EACH_SCAN_OF(X, f16, f16)

// Conditions that a lambda knows when it is compiled.
struct True {
  __device__ constexpr operator bool() const { return true; }
};
struct False {
  __device__ constexpr operator bool() const { return false; }
};

// Where a thread works. Blocks along x never span two groups.
struct Place {
  i64 batch, chunk, group, firstChannel, endChannel, channel;
  int lane, own;
  bool active;
};
template <int LANES> __device__ __forceinline__ Place placeOf(const Scan& s) {
  constexpr int CHANNELS = THREADS_OF<LANES> / LANES;
  const i64 perGroup = s.dInner / s.groups, blocks = (perGroup + CHANNELS - 1) / CHANNELS;
  Place p;
  p.batch = blockIdx.y;
  p.chunk = blockIdx.z + s.firstChunk;
  p.group = blockIdx.x / blocks;
  p.firstChannel = p.group * perGroup + blockIdx.x % blocks * CHANNELS;
  p.endChannel = (p.group + 1) * perGroup;
  p.lane = threadIdx.x % LANES;
  p.own = threadIdx.x / LANES;
  p.channel = p.firstChannel + p.own;
  p.active = p.channel < p.endChannel;
  return p;
}

__device__ __forceinline__ float ex2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// Not moved behind a wait, to the time of which it belongs.
__device__ __forceinline__ float ex2Early(float x) {
  float y;
  asm volatile("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float sigmoidOf(float x) { return __fdividef(1.f, 1.f + ex2(-LOG2E * x)); }
// The identity above 20. Below, log(1 + e) by the logarithm unit where that is accurate; where e is small 1 + e would lose it: there it is 2 atanh(e / (2 + e)),
// to 5e-7 of its value; for the 16-bit formats e - e^2 / 2, to 1e-4.
template <class T> __device__ __forceinline__ float softplusOf(float x) {
  const float e = ex2(LOG2E * x);
  float log2;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(log2) : "f"(1.f + e));
  const float large = 0.6931471805599453f * log2;
  if constexpr (sizeof(T) == 4) {
    const float s = __fdividef(e, 2.f + e), s2 = s * s;
    const float small = 2.f * s * (1.f + s2 * (1.f / 3.f + s2 * (0.2f + s2 * (1.f / 7.f + s2 * (1.f / 9.f)))));
    return x > 20.f ? x : e < 0.5f ? small : large;
  }
  return x > 20.f ? x : e < 0.01f ? e - 0.5f * e * e : large;
}

// One of two numbers that are both there: no branch, so that those of many tokens are found together.
__device__ __forceinline__ float choose(bool which, float yes, float no) {
  float chosen;
  asm("{\n.reg .pred q;\nsetp.ne.u32 q, %3, 0;\nselp.f32 %0, %1, %2, q;\n}" : "=f"(chosen) : "f"(yes), "f"(no), "r"((unsigned)which));
  return chosen;
}
template <class T> __device__ __forceinline__ float stepOf(float raw, bool there, bool softplus) {
  return choose(there, choose(softplus, softplusOf<T>(raw), raw), 0.f);
}

template <int N> __device__ __forceinline__ void loadStates(const float* from, float (&to)[N]) {
  if constexpr (N % 4 == 0) {
#pragma unroll
    for (int j = 0; j < N; j += 4) {
      const float4 v = *reinterpret_cast<const float4*>(from + j);
      to[j] = v.x, to[j + 1] = v.y, to[j + 2] = v.z, to[j + 3] = v.w;
    }
  } else {
#pragma unroll
    for (int j = 0; j < N; j++) to[j] = from[j];
  }
}

// Sums four numbers over the lanes of a channel at once: lane i gets the i-th sum. Three shuffles where one by one would take eight.
template <int LANES> __device__ __forceinline__ float sumOverLanes(const float (&v)[4], int lane) {
  const bool odd = lane & 1, high = lane & 2;
  const float a = (odd ? v[1] : v[0]) + __shfl_xor_sync(~0u, odd ? v[0] : v[1], 1);
  const float b = (odd ? v[3] : v[2]) + __shfl_xor_sync(~0u, odd ? v[2] : v[3], 1);
  float c = (high ? b : a) + __shfl_xor_sync(~0u, high ? a : b, 2);
#pragma unroll
  for (int step = 4; step < LANES; step <<= 1) c += __shfl_xor_sync(~0u, c, step);
  return c;
}
// Sums V numbers over the channels of a warp (lanes LANES apart): returns with `count` sums in v[0..], those of index `first` on. Each step halves
// what a lane is responsible for, as long as there is more than one.
template <int LANES, int V> __device__ __forceinline__ int sumOverChannels(float (&v)[V], int& count) {
  int first = 0;
  count = V;
#pragma unroll
  for (int step = LANES, size = V; step < 32; step <<= 1) {
    const bool upper = threadIdx.x & step;
    if (size > 1) {
      size >>= 1;
#pragma unroll
      for (int j = 0; j < V / 2; j++)
        if (j < size) {
          const float mine = upper ? v[j + size] : v[j], theirs = upper ? v[j] : v[j + size];
          v[j] = mine + __shfl_xor_sync(~0u, theirs, step);
        }
      if (upper) first += size;
      count = size;
    } else {
      v[0] += __shfl_xor_sync(~0u, v[0], step);
    }
  }
  return first;
}

// The state that a chunk starts from (backward: its gradient after the chunk): the chunks before it (after it), chained in order.
template <bool BACKWARD> __device__ __forceinline__ float chunkStart(const Scan& s, const float* first, i64 batch, i64 chunk, i64 channel, i64 n, float a) {
  float h = first ? first[(batch * s.dInner + channel) * s.dState + n] : 0.f;
  const i64 many = BACKWARD ? s.chunks - 1 - chunk : chunk;
#pragma unroll 4
  for (i64 k = 0; k < many; k++) {
    const i64 part = batch * s.chunks + (BACKWARD ? s.chunks - 1 - k : k);
    const float sum = s.sums[part * s.dInner + channel], end = s.ends[(part * s.dState + n) * s.dInner + channel];
    h = (sum == INFINITY ? 0.f : ex2(a * sum) * h) + end;
  }
  return h;
}
