// What the blocks of the backward pass leave, summed in a fixed order: gradients of B and C over the blocks of a group, of A, D and the bias over batch and chunks.
#include "selective_scan.cuh"

namespace {

template <class T> __device__ __forceinline__ void join(const Scan& s, T* gB, T* gC, float* gA, float* gD, float* gBias, i64 blocks) {
  awaitPass();
  const i64 each = s.batch * s.length * s.groups * 2 * s.dState;
  EACH_ELEMENT(i, each) {
    float sum = 0.f;
#pragma unroll 8
    for (i64 k = 0; k < blocks; k++) sum += s.gBC[k * each + i];
    const i64 n = i % s.dState, which = i / s.dState % 2, rowAndGroup = i / s.dState / 2;
    (which ? gC : gB)[rowAndGroup * s.dState + n] = narrow<T>(sum);
  }
  const i64 parts = s.batch * s.chunks, states = s.dInner * s.dState;
  EACH_ELEMENT(i, states + 2 * s.dInner) {
    const bool isD = i >= states && i < states + s.dInner, isBias = i >= states + s.dInner;
    const i64 at = isBias ? i - states - s.dInner : isD ? i - states : i, width = i < states ? states : s.dInner;
    const float* from = isBias ? s.gBias : isD ? s.gD : s.gA;
    float sum = 0.f;
#pragma unroll 8
    for (i64 k = 0; k < parts; k++) sum += from[k * width + at];
    (isBias ? gBias : isD ? gD : gA)[at] = sum;
  }
}

}  // namespace

#define JOIN(name, T)                                                                                                          \
  extern "C" __global__ void scan_join_##name(Scan s, T* gB, T* gC, float* gA, float* gD, float* gBias, i64 blocks) {            \
    join<T>(s, gB, gC, gA, gD, gBias, blocks);                                                                                  \
  }
JOIN(float32, float)
JOIN(bf16, bf16)
JOIN(f16, f16)
