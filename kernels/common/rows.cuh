// A row held in registers by a team of THREADS, a warp or a whole block, in fours: thread t has elements 4 (t + k THREADS) and the three after each.
// Everything is read once, and all at once.
#pragma once
#include "step.cuh"

template <class W> struct Statistics {
  W mean, scale;
};
template <class T> struct alignas(4 * sizeof(T)) Quad {
  T values[4];
};
template <class T> __device__ __forceinline__ void load(const T* p, float (&into)[4]) {
  const Quad<T> q = *(const Quad<T>*)p;
#pragma unroll
  for (int i = 0; i < 4; i++) into[i] = widen(q.values[i]);
}
template <class T> __device__ __forceinline__ void store(T* p, const float (&from)[4]) {
  Quad<T> q;
#pragma unroll
  for (int i = 0; i < 4; i++) q.values[i] = narrow<T>(from[i]);
  *(Quad<T>*)p = q;
}

// The quads of row `p` that are the thread's.
template <int THREADS, int QUADS, class T> __device__ __forceinline__ void loadRow(const T* p, int thread, int width, float (&into)[QUADS][4]) {
#pragma unroll
  for (int k = 0; k < QUADS; k++) {
    const int j = 4 * (thread + k * THREADS);
    if (j < width) load(p + j, into[k]);
  }
}
// The same, added to what is there.
template <int THREADS, int QUADS, class T> __device__ __forceinline__ void addRow(const T* p, int thread, int width, float (&to)[QUADS][4]) {
  float more[QUADS][4];
  loadRow<THREADS>(p, thread, width, more);
#pragma unroll
  for (int k = 0; k < QUADS; k++)
    if (4 * (thread + k * THREADS) < width)
#pragma unroll
      for (int i = 0; i < 4; i++) to[k][i] += more[k][i];
}

template <int THREADS> __device__ __forceinline__ float teamSum(float x, float* scratch) {
  return THREADS == 32 ? warpSum(x) : blockSum(x, scratch);
}
// `scratch`: 32 numbers for a block, nothing for a warp.
template <int THREADS, int QUADS>
__device__ __forceinline__ Statistics<float> rowStatistics(const float (&s)[QUADS][4], int thread, int width, float eps, bool centred, float* scratch = nullptr) {
  float mean = 0, squares = 0;
  if (centred) {
#pragma unroll
    for (int k = 0; k < QUADS; k++)
      if (4 * (thread + k * THREADS) < width) mean += (s[k][0] + s[k][1]) + (s[k][2] + s[k][3]);
    mean = teamSum<THREADS>(mean, scratch) / width;
  }
#pragma unroll
  for (int k = 0; k < QUADS; k++)
    if (4 * (thread + k * THREADS) < width)
#pragma unroll
      for (int i = 0; i < 4; i++) squares += (s[k][i] - mean) * (s[k][i] - mean);
  return {mean, 1.0f / sqrtf(teamSum<THREADS>(squares, scratch) / width + eps)};
}
