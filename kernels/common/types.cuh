// What every kernel starts with: the dtypes, how they are read and written, and the types that arithmetic on them happens in.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

using i64 = long long;
using bf16 = __nv_bfloat16;
using f16 = __half;

// Arithmetic on the 16-bit formats is float32's.
template <class T> struct WideOf { using type = float; };
template <> struct WideOf<double> { using type = double; };
template <> struct WideOf<int> { using type = int; };
template <class T> using Wide = typename WideOf<T>::type;

template <class T> __device__ __forceinline__ Wide<T> widen(T x) { return x; }
template <> __device__ __forceinline__ float widen<bf16>(bf16 x) { return __bfloat162float(x); }
template <> __device__ __forceinline__ float widen<f16>(f16 x) { return __half2float(x); }

// Rounds to nearest even.
template <class T> __device__ __forceinline__ T narrow(Wide<T> x) { return x; }
template <> __device__ __forceinline__ bf16 narrow<bf16>(float x) { return __float2bfloat16(x); }
template <> __device__ __forceinline__ f16 narrow<f16>(float x) { return __float2half(x); }

// X(suffix of the kernel's name, type)
#define EACH_FLOAT(X) X(float32, float) X(float64, double) X(bf16, bf16) X(f16, f16)
#define EACH_DTYPE(X) EACH_FLOAT(X) X(int32, int)

// Elements are handed out in a loop over the grid, so that any count fits any grid.
#define EACH_ELEMENT(i, n) for (i64 i = blockIdx.x * (i64)blockDim.x + threadIdx.x; i < (n); i += (i64)gridDim.x * blockDim.x)

template <class W> __device__ __forceinline__ W sigmoid(W x) { return W(1) / (W(1) + exp(-x)); }
// The identity above 20; log1p below, where 1 + exp(x) would lose what matters.
template <class W> __device__ __forceinline__ W softplus(W x) { return x > W(20) ? x : log1p(exp(x)); }

// Sum over the block, in an order that depends on nothing but its size; every thread gets it. `scratch` holds 32 numbers.
template <class W> __device__ __forceinline__ W blockSum(W x, W* scratch) {
  for (int step = 16; step > 0; step >>= 1) x += __shfl_xor_sync(~0u, x, step);
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  W total = 0;
  for (int w = 0; w < (blockDim.x + 31) / 32; w++) total += scratch[w];
  return total;
}
template <class W> __device__ __forceinline__ W blockMax(W x, W* scratch) {
  for (int step = 16; step > 0; step >>= 1) x = fmax(x, __shfl_xor_sync(~0u, x, step));
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  W top = scratch[0];
  for (int w = 1; w < (blockDim.x + 31) / 32; w++) top = fmax(top, scratch[w]);
  return top;
}
