// The states' step of many sequences: dt, B and C normed where a model norms them, dt_proj, softplus, the states move on, D, gate.
//
// Bound by the states, read once and written once. A warp takes 8 or 16 channels of 8 sequences: 4 lanes a channel, 4 states each, so that a load is 512
// contiguous bytes. All its states, 32 or 64 registers a lane, are asked for before the kernels before are done, and its rows of dt_proj go to shared memory
// meanwhile. dt_proj is a product on the matrix units, channels x sequences: its fragments leave delta of sequences 2q and 2q + 1 in lane q of a
// channel, which does for these two what a channel needs once: delta and the gate. dt is split into two numbers of type W, so that little is lost.
// Every sum has one order, whatever the batch is, and
// multiply-adds are written out, so that both kernels, with 8 and with 16 channels a warp, get the same bits. dInner is a multiple of 16, dtRank one of 8.

#include "../common/skinny.cuh"
#include "mamba_step.cuh"

constexpr int SEQUENCES = 8;
constexpr float LOG2E = 1.4426950408889634f;

// 16 bytes that are read once and written once, which no cache need keep; zeros, and nothing, where they are not `there`.
__device__ __forceinline__ float4 loadOnce(const float* p, bool isThere) {
  float4 v;
  asm volatile(
      "{.reg .pred there; setp.ne.b32 there, %5, 0; mov.f32 %0, 0f00000000; mov.f32 %1, 0f00000000; mov.f32 %2, 0f00000000; mov.f32 %3, 0f00000000;\n\t"
      "@there ld.global.L1::no_allocate.v4.f32 {%0, %1, %2, %3}, [%4];}"
      : "=&f"(v.x), "=&f"(v.y), "=&f"(v.z), "=&f"(v.w)
      : "l"(p), "r"((int)isThere));
  return v;
}
__device__ __forceinline__ void storeOnce(float* p, float4 v, bool isThere) {
  asm volatile("{.reg .pred there; setp.ne.b32 there, %5, 0; @there st.global.cs.v4.f32 [%4], {%0, %1, %2, %3};}" ::"f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w), "l"(p),
               "r"((int)isThere)
               : "memory");
}
// 16 bytes to shared memory, or zeros.
__device__ __forceinline__ void copyAsync(unsigned to, const void* from, bool isThere = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(isThere ? 16 : 0) : "memory");
}
__device__ __forceinline__ unsigned sharedAddress(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
__device__ __forceinline__ float exp2Of(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// Without branches, to 2e-6: log(1 + e) = 2 artanh(e / (2 + e)) where 1 + e would lose what matters.
__device__ __forceinline__ float softplusOf(float x) {
  const float e = exp2Of(x * LOG2E), ratio = __fdividef(e, 2 + e), square = ratio * ratio;
  const float rest = fmaf(square, fmaf(square, 1.0f / 7, 1.0f / 5), 1.0f / 3), small = fmaf(2 * ratio * square, rest, 2 * ratio);
  float y;
  asm("{.reg .pred isSmall, isLarge; setp.lt.f32 isSmall, %1, 0f3E800000; setp.gt.f32 isLarge, %4, 0f41A00000;\n\t"
      "selp.f32 %0, %2, %3, isSmall; selp.f32 %0, %4, %0, isLarge;}"
      : "=&f"(y)
      : "f"(e), "f"(small), "f"(__logf(1 + e)), "f"(x));
  return y;
}
// a and b as two numbers of type W, a lower, and what is left of them as two more.
__device__ __forceinline__ void split(bf16, float a, float b, unsigned& high, unsigned& low) {
  const __nv_bfloat162 first = __floats2bfloat162_rn(a, b);
  const __nv_bfloat162 rest = __floats2bfloat162_rn(a - __low2float(first), b - __high2float(first));
  high = *(const unsigned*)&first, low = *(const unsigned*)&rest;
}
__device__ __forceinline__ void split(f16, float a, float b, unsigned& high, unsigned& low) {
  const __half2 first = __floats2half2_rn(a, b);
  const __half2 rest = __floats2half2_rn(a - __low2float(first), b - __high2float(first));
  high = *(const unsigned*)&first, low = *(const unsigned*)&rest;
}

// Shared: rows of dt_proj [CHANNELS WARPS][dtRank, a multiple of 64]; [WARPS][OWN_FLOATS]; dt, B and C [SEQUENCES][dtRank + 2 N + 4].
template <class W, int N, int K, int WARPS> __device__ __forceinline__ void advanceStates(const Step& s) {
  // A warp's channels; what it keeps of them in shared memory; lanes that fetch a row of dt_proj.
  constexpr int CHANNELS = 8 * K, OWN_FLOATS = 2 * SEQUENCES * CHANNELS + 2 * CHANNELS, LANES = 32 / CHANNELS;
  extern __shared__ uint4 shared[];
  letNext();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
  const int rank = (int)s.dtRank, width = rank + 2 * N, dInner = (int)s.dInner, from = N == 16 || 4 * q < N ? 4 * q : 0;
  const bool hasStates = N == 16 || 4 * q < N, isMine = (blockIdx.x * WARPS + warp) * CHANNELS < dInner;
  const int c0 = isMine ? (blockIdx.x * WARPS + warp) * CHANNELS : 0, c = c0 + g;
  const i64 b0 = (i64)blockIdx.y * SEQUENCES, first = (b0 * dInner + c) * N + from;
  const int rows = (int)min((i64)SEQUENCES, s.batch - b0), own = isMine && hasStates ? rows : 0, stride = dInner * N;
  float4 h[SEQUENCES][K];
  {
    const float* in = s.ssmIn + first;
#pragma unroll
    for (int r = 0; r < SEQUENCES; r++, in += stride)
#pragma unroll
      for (int k = 0; k < K; k++) h[r][k] = loadOnce(in + k * 8 * N, r < own);
  }
  // Units of 16 bytes, zeros up to 64 elements. Odd rows have theirs in another order, or two rows were in the same banks.
  const int units = rank / 8, pitch = (units + 7) / 8 * 8;
  uint4* const weights = shared + warp * CHANNELS * pitch;
  {
    const int row = lane / LANES;
    const W* dtRow = (const W*)s.dtProj + (i64)(c0 + row) * rank + 8 * min(lane % LANES, units - 1);
    const unsigned to = sharedAddress(weights + row * pitch);
#pragma unroll 1
    for (int u = lane % LANES; u < pitch; u += LANES) {
      copyAsync(to + 16 * (u ^ row % 2 * 4), dtRow, u < units);
      if (u + LANES < units) dtRow += 8 * LANES;
    }
  }
  // u and gate, those of sequences that lane q of a channel takes, e = 0 and 1: [2][4][CHANNELS], in an order in which all 32 lanes have banks of their
  // own; dt_proj's bias, D.
  constexpr int OWN = SEQUENCES * CHANNELS;
  float *const u = (float*)(shared + WARPS * CHANNELS * pitch) + warp * OWN_FLOATS, *const gate = u + OWN, *const bias = gate + OWN, *const skip = bias + CHANNELS;
  float* const parts = (float*)(shared + WARPS * CHANNELS * pitch) + WARPS * OWN_FLOATS;
  const int partsPitch = width + 4;
  if (lane < 4 * K) copyAsync(sharedAddress(bias + 4 * lane), (lane < 2 * K ? s.dtBias : s.D) + c0 + lane % (2 * K) * 4);
  float a[K][4];
#pragma unroll
  for (int k = 0; k < K; k++) {
    const float4 A = *(const float4*)(s.A_log + (i64)(c + 8 * k) * N + from);
    a[k][0] = -LOG2E * exp2Of(LOG2E * A.x), a[k][1] = -LOG2E * exp2Of(LOG2E * A.y);
    a[k][2] = -LOG2E * exp2Of(LOG2E * A.z), a[k][3] = -LOG2E * exp2Of(LOG2E * A.w);
  }
  // Sequences beyond the last repeat it and are not stored.
  constexpr int EACH = 32 * WARPS / SEQUENCES;
  const int row = threadIdx.x / EACH, unit = threadIdx.x % EACH * 4;
  const int zStride = s.z ? dInner : 2 * dInner, which = lane % (16 * K) / (2 * K), part = lane % (2 * K), b = min(which, rows - 1), column = c0 + 4 * part;
  const float* dbc = s.dbc + b0 * width + (min(row, rows - 1) * width + unit);
  const float *us = s.u + b0 * dInner + (b * dInner + column), *gates = (s.z ? s.z : s.xz + dInner) + b0 * zStride + (b * zStride + column);
  const unsigned toU = sharedAddress(u + (which % 2 * 4 + which / 2) * CHANNELS + 4 * (K == 2 ? part ^ which / 4 * 2 : part));
  unsigned toParts = sharedAddress(parts + row * partsPitch + unit);
  awaitPrevious();
  if (K == 2 || lane < 16) copyAsync(toU, us);
  if (K == 2 || lane >= 16) copyAsync(toU + 4 * OWN, gates);
#pragma unroll 1
  for (int i = unit; i < width; i += 4 * EACH, dbc += 4 * EACH, toParts += 16 * EACH) copyAsync(toParts, dbc);
  asm volatile("cp.async.wait_all;" ::: "memory");
  __syncthreads();
  normParts(s, parts, SEQUENCES, partsPitch);
  // 8 elements of dt become 8 numbers of type W and 8 of what is left, in the same place.
#pragma unroll 1
  for (int i = threadIdx.x; i < SEQUENCES * units; i += 32 * WARPS) {
    uint4* at = (uint4*)(parts + i % SEQUENCES * partsPitch) + i / SEQUENCES * 2;
    const float4 d0 = *(const float4*)at, d1 = *(const float4*)(at + 1);
    uint4 high, low;
    split(W(), d0.x, d0.y, high.x, low.x), split(W(), d0.z, d0.w, high.y, low.y);
    split(W(), d1.x, d1.y, high.z, low.z), split(W(), d1.z, d1.w, high.w, low.w);
    at[0] = high, at[1] = low;
  }
  __syncthreads();
  float high[4] = {}, low[4] = {};
  {
    const uint4 *w = weights + g * pitch, *d = (const uint4*)(parts + g * partsPitch);
    const int flip = g % 2 * 4;
#pragma unroll 1
    for (int at = q; at < pitch; at += 8)
#pragma unroll
      for (int k = 0; k < 8; k += 4) {
        const uint4 w0 = w[(at + k) ^ flip], w1 = K == 2 ? w[8 * pitch + ((at + k) ^ flip)] : make_uint4(0, 0, 0, 0);
        // Beyond the last dt are zeros of the weights.
        const int from = 2 * min(at + k, units - 1);
        const uint4 d0 = d[from], d1 = d[from + 1];
        mma<W>(high, w0.x, w1.x, w0.y, w1.y, d0.x, d0.y);
        mma<W>(low, w0.x, w1.x, w0.y, w1.y, d1.x, d1.y);
        mma<W>(high, w0.z, w1.z, w0.w, w1.w, d0.z, d0.w);
        mma<W>(low, w0.z, w1.z, w0.w, w1.w, d1.z, d1.w);
      }
  }
  float delta[K][2], step[K][2], sums[K][SEQUENCES];
#pragma unroll
  for (int k = 0; k < K; k++)
#pragma unroll
    for (int e = 0; e < 2; e++) {
      delta[k][e] = softplusOf(high[2 * k + e] + low[2 * k + e] + bias[g + 8 * k]);
      step[k][e] = delta[k][e] * u[(4 * e + q) * CHANNELS + g + 8 * (K == 2 ? k ^ q / 2 : 0)];
    }
  float* out = s.ssmOut + first;
  const float* B = parts + rank + from;
#pragma unroll
  for (int r = 0; r < SEQUENCES; r++, out += stride, B += partsPitch) {
    const float4 b = *(const float4*)B, c4 = *(const float4*)(B + N);
#pragma unroll
    for (int k = 0; k < K; k++) {
      const float time = __shfl_sync(~0u, delta[k][r % 2], 4 * g + r / 2), in = __shfl_sync(~0u, step[k][r % 2], 4 * g + r / 2);
      float4 next = h[r][k];
      next.x = fmaf(exp2Of(time * a[k][0]), next.x, in * b.x);
      next.y = fmaf(exp2Of(time * a[k][1]), next.y, in * b.y);
      next.z = fmaf(exp2Of(time * a[k][2]), next.z, in * b.z);
      next.w = fmaf(exp2Of(time * a[k][3]), next.w, in * b.w);
      sums[k][r] = hasStates ? fmaf(next.x, c4.x, next.y * c4.y) + fmaf(next.z, c4.z, next.w * c4.w) : 0.0f;
      storeOnce(out + k * 8 * N, next, r < own);
    }
  }
#pragma unroll
  for (int k = 0; k < K; k++)
#pragma unroll
    for (int e = 0; e < 2; e++) {
      const float all[4] = {sums[k][e], sums[k][2 + e], sums[k][4 + e], sums[k][6 + e]};
      const int at = (4 * e + q) * CHANNELS + g + 8 * (K == 2 ? k ^ q / 2 : 0);
      const float z = gate[at], y = fmaf(skip[g + 8 * k], u[at], sumOfOwn(all, q)) * __fdividef(z, 1 + exp2Of(-LOG2E * z));
      if (!isMine || 2 * q + e >= rows) continue;
      const i64 one = b0 * dInner + ((2 * q + e) * dInner + c + 8 * k);
      if (s.yCast) ((W*)s.yCast)[one] = narrow<W>(y);
      else s.y[one] = y;
    }
}

// Warps of 8 channels: three blocks of 6 fit a multiprocessor; of 16: four of 4.
#define STATES(name, W, N)                                                                                                          \
  extern "C" __global__ void __launch_bounds__(192, 3) step_advance_states_##N##_8_##name(Step s) { advanceStates<W, N, 1, 6>(s); }  \
  extern "C" __global__ void __launch_bounds__(128, 4) step_advance_states_##N##_16_##name(Step s) { advanceStates<W, N, 2, 4>(s); }
#define SIZES(name, W) STATES(name, W, 4) STATES(name, W, 8) STATES(name, W, 12) STATES(name, W, 16)
SIZES(bf16, bf16)
SIZES(f16, f16)
