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
