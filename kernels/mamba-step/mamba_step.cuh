// What the kernels of a block's step are given, and what they share.
#pragma once
#include "../common/step.cuh"

struct Step {
  const float *x, *update, *normWeight, *normBias, *inBias, *convWeight, *convBias, *dtBias, *dtNorm, *bNorm, *cNorm, *A_log, *D, *outBias;
  const void *inProj, *xProj, *dtProj, *outProj;
  const float *convIn, *ssmIn;
  float *convOut, *ssmOut, *out;
  // Between the kernels: x_proj's input, gate [batch, dInner], dt B C [batch, dtRank + 2 dState], the scan's output [batch, dInner].
  float *u, *z, *dbc, *y;
  // The same in W for cuBLASLt, and the products of in_proj [batch, 2 dInner].
  void *normed, *uCast, *yCast;
  float* xz;
  i64 batch, dModel, dInner, dState, dConv, dtRank;
  double normEps, innerEps;
  i64 centred, innerNorm;  // 0 none, 1 without weights or with
};

__device__ __forceinline__ float streamAt(const Step& s, i64 i) { return s.x[i] + (s.update ? s.update[i] : 0.0f); }

// The norm of row b of the stream, element by element to `put`.
template <class F> __device__ __forceinline__ void normRow(const Step& s, i64 b, float* scratch, F put) {
  const int width = (int)s.dModel;
  float mean = 0, squares = 0;
  if (s.centred) {
    for (int j = threadIdx.x; j < width; j += blockDim.x) mean += streamAt(s, b * width + j);
    mean = blockSum(mean, scratch) / width;
  }
  for (int j = threadIdx.x; j < width; j += blockDim.x) {
    const float d = streamAt(s, b * width + j) - mean;
    squares += d * d;
  }
  const float scale = rsqrtf(blockSum(squares, scratch) / width + (float)s.normEps);
  for (int j = threadIdx.x; j < width; j += blockDim.x) {
    const float v = (streamAt(s, b * width + j) - mean) * scale * s.normWeight[j];
    put(j, s.normBias ? v + s.normBias[j] : v);
  }
}

// The convolution at one token of channel c, whose input is v; moves its state on.
__device__ __forceinline__ float convolve(const Step& s, i64 b, int c, float v) {
  const int kept = (int)s.dConv - 1;
  const i64 at = b * kept * s.dInner + c;
  const float* weight = s.convWeight + (i64)c * s.dConv;
  float sum = (s.convBias ? s.convBias[c] : 0.0f) + weight[kept] * v;
  for (int k = 0; k < kept; k++) {
    const float past = s.convIn[at + k * s.dInner];
    sum += weight[k] * past;
    // Behind the reading: the states may be the same memory.
    if (k > 0) s.convOut[at + (k - 1) * s.dInner] = past;
  }
  if (kept > 0) s.convOut[at + (kept - 1) * s.dInner] = v;
  return sum * sigmoid(sum);
}

// The norms of dt, B and C in parts [rows][dtRank + 2 dState], rows `pitch` apart, where a model has them: a warp a part of a row.
__device__ __forceinline__ void normParts(const Step& s, float* parts, int rows, int pitch) {
  if (!s.innerNorm) return;
  const int N = (int)s.dState, rank = (int)s.dtRank;
  for (int job = threadIdx.x / 32; job < 3 * rows; job += blockDim.x / 32) {
    const int which = job % 3, from = which == 0 ? 0 : which == 1 ? rank : rank + N, size = which == 0 ? rank : N;
    float* part = parts + job / 3 * pitch + from;
    const float* weight = which == 0 ? s.dtNorm : which == 1 ? s.bNorm : s.cNorm;
    float squares = 0;
    for (int i = threadIdx.x % 32; i < size; i += 32) squares += part[i] * part[i];
    const float scale = rsqrtf(warpSum(squares) / size + (float)s.innerEps);
    for (int i = threadIdx.x % 32; i < size; i += 32) part[i] *= weight ? scale * weight[i] : scale;
  }
  __syncthreads();
}

// Lane q of 4 gets the sum over the four lanes of v[q].
__device__ __forceinline__ float sumOfOwn(const float (&v)[4], int q) {
  const float low = (q & 1 ? v[1] : v[0]) + __shfl_xor_sync(~0u, q & 1 ? v[0] : v[1], 1);
  const float high = (q & 1 ? v[3] : v[2]) + __shfl_xor_sync(~0u, q & 1 ? v[2] : v[3], 1);
  return (q & 2 ? high : low) + __shfl_xor_sync(~0u, q & 2 ? low : high, 2);
}
