// What kernels of one decoding step share: they stream weights, which they fetch before what is before them is done (see chain.cuh). In each step one
// kernel, its first, ends the chain.
#pragma once
#include "chain.cuh"
#include "types.cuh"

// 16 bytes of weights.
template <class T> struct Pack {
  static constexpr int COUNT = 16 / sizeof(T);
  union {
    uint4 bits;
    T values[COUNT];
  };
};
template <class T> __device__ __forceinline__ Pack<T> fetch(const T* p) {
  Pack<T> pack;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(pack.bits.x), "=r"(pack.bits.y), "=r"(pack.bits.z), "=r"(pack.bits.w) : "l"(p));
  return pack;
}

// Asks for the line of p in the second-level cache.
__device__ __forceinline__ void prefetch(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }

__device__ __forceinline__ float warpSum(float x, int lanes = 32) {
  for (int step = lanes / 2; step > 0; step >>= 1) x += __shfl_xor_sync(~0u, x, step);
  return x;
}

// Part of the product of a row of weights with B vectors x[b * stride ...] in float32: the elements that fall to this one of `workers` threads.
// PACKS of them are fetched by `ahead`, before the vectors are there. Rows that are no multiple of 16 bytes go element by element.
template <class T, int B, int PACKS> struct RowProduct {
  static constexpr int COUNT = Pack<T>::COUNT;
  const T* row;
  int width, worker, workers;
  bool isPacked;
  Pack<T> first[PACKS];

  __device__ __forceinline__ void ahead(const T* from, int n, int which, int of) {
    row = from, width = n, worker = which, workers = of;
    isPacked = n % COUNT == 0;
    if (!isPacked) return;
#pragma unroll
    for (int k = 0; k < PACKS; k++)
      if ((worker + k * workers) * COUNT < width) first[k] = fetch(row + (worker + k * workers) * COUNT);
  }

  // A vector in the weights' own half format.
  __device__ __forceinline__ void add(const Pack<T>& w, const T* x, i64 stride, int at, int rows, float (&sums)[B]) const {
#pragma unroll
    for (int b = 0; b < B; b++)
      if (b < rows) {
        Pack<T> v;
        v.bits = *(const uint4*)(x + b * stride + at);
#pragma unroll
        for (int j = 0; j < COUNT; j++) sums[b] += widen(w.values[j]) * widen(v.values[j]);
      }
  }

  template <class X> __device__ __forceinline__ void add(const Pack<T>& w, const X* x, i64 stride, int at, int rows, float (&sums)[B]) const {
#pragma unroll
    for (int b = 0; b < B; b++)
      if (b < rows) {
        const float4* v = (const float4*)(x + b * stride + at);
#pragma unroll
        for (int j = 0; j < COUNT / 4; j++) {
          const float4 q = v[j];
          sums[b] += widen(w.values[4 * j]) * q.x + widen(w.values[4 * j + 1]) * q.y + widen(w.values[4 * j + 2]) * q.z +
                     widen(w.values[4 * j + 3]) * q.w;
        }
      }
  }

  template <class X> __device__ __forceinline__ void finish(const X* x, i64 stride, int rows, float (&sums)[B]) const {
#pragma unroll
    for (int b = 0; b < B; b++) sums[b] = 0;
    if (!isPacked) {
      for (int i = worker; i < width; i += workers)
#pragma unroll
        for (int b = 0; b < B; b++)
          if (b < rows) sums[b] += widen(row[i]) * widen(x[b * stride + i]);
      return;
    }
#pragma unroll
    for (int k = 0; k < PACKS; k++)
      if ((worker + k * workers) * COUNT < width) add(first[k], x, stride, (worker + k * workers) * COUNT, rows, sums);
#pragma unroll 4
    for (int at = (worker + PACKS * workers) * COUNT; at < width; at += workers * COUNT) add(fetch(row + at), x, stride, at, rows, sums);
  }
};
