// Mixture of experts, grouped by expert: choices are sorted into blocks of 64 rows that share an expert, so that a block is one matrix product.
// The number of blocks is bounded by ceil(tokens topK / 64) + experts: nothing is read back, and only chosen experts are computed.
// Sums run over choices in order, without atomics: the same bits every time. float32 in registers, the 16-bit formats on the tensor cores.
#include <mma.h>

#include "../common/types.cuh"

constexpr int TILE = 64, DEPTH = 32, PAD = 72, RESULT = 68, THREADS = 256;

// What `moe_place` lays out: counts [experts], the expert of each block (-1: not used), the choice in each row (-1: none), the row of each choice (-1: dropped).
struct Plan {
  i64 tokens, topK, experts, blocks;
  int *counts, *blockExpert, *order, *slotOf;
};

// Grid: experts.
extern "C" __global__ void __launch_bounds__(THREADS) moe_count(const int* indices, Plan p) {
  __shared__ float scratch[32];
  const int e = blockIdx.x;
  int n = 0;
  for (i64 c = threadIdx.x; c < p.tokens * p.topK; c += THREADS) n += indices[c] == e;
  const float total = blockSum((float)n, scratch);
  if (threadIdx.x == 0) p.counts[e] = (int)total;
}

// Grid: experts. Rows keep the order of the choices.
extern "C" __global__ void __launch_bounds__(THREADS) moe_place(const int* indices, Plan p) {
  __shared__ int ofWarp[THREADS / 32];
  const int e = blockIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  i64 first = 0;
  for (int f = 0; f < e; f++) first += (p.counts[f] + TILE - 1) / TILE;
  for (i64 b = threadIdx.x; b < (p.counts[e] + TILE - 1) / TILE; b += THREADS) p.blockExpert[first + b] = e;
  i64 next = first * TILE;
  for (i64 c0 = 0; c0 < p.tokens * p.topK; c0 += THREADS) {
    const i64 c = c0 + threadIdx.x;
    const bool own = c < p.tokens * p.topK && indices[c] == e;
    const unsigned ballot = __ballot_sync(~0u, own);
    __syncthreads();
    if (lane == 0) ofWarp[warp] = __popc(ballot);
    __syncthreads();
    i64 slot = next + __popc(ballot & ((1u << lane) - 1));
    for (int w = 0; w < THREADS / 32; w++) {
      if (w < warp) slot += ofWarp[w];
      next += ofWarp[w];
    }
    if (own) p.order[slot] = (int)c, p.slotOf[c] = (int)slot;
  }
}

// result[m][n] = sum over k < depth of a(m, k) b(n, k), [64, RESULT] in shared memory. `alongK` says which index of an operand is dense in memory.
template <class T, class A, class B> __device__ void multiply(A a, bool aAlongK, B b, bool bAlongK, i64 depth, float* result) {
  __shared__ __align__(16) T sa[DEPTH * PAD], sb[DEPTH * PAD];
  const auto load = [&](auto from, bool alongK, T* into, i64 k0) {
    for (int t = threadIdx.x; t < TILE * DEPTH; t += THREADS) {
      const int k = alongK ? t % DEPTH : t / TILE, m = alongK ? t / DEPTH : t % TILE;
      into[k * PAD + m] = k0 + k < depth ? from(m, k0 + k) : narrow<T>(0.0f);
    }
  };
  if constexpr (sizeof(T) == 4) {
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    float acc[4][4] = {};
    for (i64 k0 = 0; k0 < depth; k0 += DEPTH) {
      __syncthreads();
      load(a, aAlongK, sa, k0);
      load(b, bAlongK, sb, k0);
      __syncthreads();
#pragma unroll 8
      for (int k = 0; k < DEPTH; k++) {
        const float4 x = *(const float4*)(sa + k * PAD + 4 * ty), y = *(const float4*)(sb + k * PAD + 4 * tx);
        const float xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
        for (int m = 0; m < 4; m++)
#pragma unroll
          for (int n = 0; n < 4; n++) acc[m][n] += xs[m] * ys[n];
      }
    }
#pragma unroll
    for (int m = 0; m < 4; m++)
#pragma unroll
      for (int n = 0; n < 4; n++) result[(4 * ty + m) * RESULT + 4 * tx + n] = acc[m][n];
  } else {
    using namespace nvcuda;
    // Eight warps, 16 x 32 of the tile each.
    const int m0 = threadIdx.x / 32 % 4 * 16, n0 = threadIdx.x / 128 * 32;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> acc[2];
    for (int n = 0; n < 2; n++) wmma::fill_fragment(acc[n], 0.0f);
    for (i64 k0 = 0; k0 < depth; k0 += DEPTH) {
      __syncthreads();
      load(a, aAlongK, sa, k0);
      load(b, bAlongK, sb, k0);
      __syncthreads();
#pragma unroll
      for (int k = 0; k < DEPTH; k += 16) {
        wmma::fragment<wmma::matrix_a, 16, 16, 16, T, wmma::col_major> left;
        wmma::load_matrix_sync(left, sa + k * PAD + m0, PAD);
        for (int n = 0; n < 2; n++) {
          wmma::fragment<wmma::matrix_b, 16, 16, 16, T, wmma::row_major> right;
          wmma::load_matrix_sync(right, sb + k * PAD + n0 + 16 * n, PAD);
          wmma::mma_sync(acc[n], left, right, acc[n]);
        }
      }
    }
    for (int n = 0; n < 2; n++) wmma::store_matrix_sync(result + m0 * RESULT + n0 + 16 * n, acc[n], RESULT, wmma::mem_row_major);
  }
  __syncthreads();
}

// y[row] = a[row] W_e^T, W [experts, n, k]; `turned`: a[row] W_e, W [experts, k, n]. `gathered`: a's rows are tokens. `accumulate`: y += .
// Grid: blocks, ceil(n / 64).
template <class T, class Y> __device__ void rows(const T* a, const T* weight, Y* y, i64 n, i64 k, int turned, int gathered, int accumulate, const Plan& p) {
  __shared__ __align__(16) float result[TILE * RESULT];
  const int e = p.blockExpert[blockIdx.x];
  if (e < 0) return;
  const i64 slot0 = blockIdx.x * (i64)TILE, n0 = blockIdx.y * (i64)TILE;
  const T* w = weight + e * n * k;
  const auto left = [&](int m, i64 at) {
    const int choice = p.order[slot0 + m];
    if (choice < 0) return narrow<T>(0.0f);
    return a[(gathered ? choice / p.topK : slot0 + m) * k + at];
  };
  const auto right = [&](int m, i64 at) {
    if (n0 + m >= n) return narrow<T>(0.0f);
    return turned ? w[at * n + n0 + m] : w[(n0 + m) * k + at];
  };
  multiply<T>(left, true, right, !turned, k, result);
  for (int t = threadIdx.x; t < TILE * TILE; t += THREADS) {
    const i64 column = n0 + t % TILE;
    if (column >= n) continue;
    Y* into = y + (slot0 + t / TILE) * n + column;
    const float value = result[t / TILE * RESULT + t % TILE];
    *into = narrow<Y>(accumulate ? value + widen(*into) : value);
  }
}

// g[e] [m, n] = sum over the expert's rows of a[row]^T b[row]. Grid: ceil(m / 64), ceil(n / 64), experts.
template <class T> __device__ void weights(const T* a, const T* b, float* g, i64 m, i64 n, int aGathered, int bGathered, const Plan& p) {
  __shared__ __align__(16) float result[TILE * RESULT];
  const int e = blockIdx.z;
  i64 first = 0;
  for (int f = 0; f < e; f++) first += (p.counts[f] + TILE - 1) / TILE;
  const i64 m0 = blockIdx.x * (i64)TILE, n0 = blockIdx.y * (i64)TILE, slot0 = first * TILE;
  const auto operand = [&](const T* from, i64 width, i64 at0, int gathered) {
    return [=, &p](int at, i64 r) {
      if (at0 + at >= width) return narrow<T>(0.0f);
      return from[(gathered ? p.order[slot0 + r] / p.topK : slot0 + r) * width + at0 + at];
    };
  };
  multiply<T>(operand(a, m, m0, aGathered), false, operand(b, n, n0, bGathered), false, p.counts[e], result);
  for (int t = threadIdx.x; t < TILE * TILE; t += THREADS) {
    const i64 row = m0 + t / TILE, column = n0 + t % TILE;
    if (row < m && column < n) g[(e * m + row) * n + column] = result[t / TILE * RESULT + t % TILE];
  }
}

enum { RELU, SILU, GELU };
__device__ float activate(int kind, float x) {
  if (kind == RELU) return x > 0 ? x : 0;
  if (kind == SILU) return x * sigmoid(x);
  return 0.5f * x * (1 + erff(x * 0.70710678f));
}
__device__ float slope(int kind, float x) {
  if (kind == RELU) return x > 0 ? 1 : 0;
  if (kind == SILU) {
    const float s = sigmoid(x);
    return s * (1 + x * (1 - s));
  }
  return 0.5f * (1 + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
}

// inner = activation(gate) up, or activation(up) without gate.
template <class T> __device__ void inside(const T* gate, const T* up, T* inner, i64 n, int kind) {
  EACH_ELEMENT(i, n) {
    const float u = widen(up[i]);
    inner[i] = narrow<T>(gate ? activate(kind, widen(gate[i])) * u : activate(kind, u));
  }
}

// y[token] = sum over its choices of weights[choice] rows[slot], in order; weights may be absent. Grid: tokens.
template <class T> __device__ void combine(const float* from, const T* scale, T* y, i64 width, const Plan& p) {
  const i64 token = blockIdx.x;
  for (i64 d = threadIdx.x; d < width; d += blockDim.x) {
    float sum = 0;
    for (i64 c = token * p.topK; c < (token + 1) * p.topK; c++) {
      const int slot = p.slotOf[c];
      if (slot >= 0) sum += (scale ? widen(scale[c]) : 1.0f) * from[slot * width + d];
    }
    y[token * width + d] = narrow<T>(sum);
  }
}

// With g = gy W_down of a row: the gradient of its weight, inner . g; of gate and up; and the weighted inner. Grid: rows, a block each.
template <class T> __device__ void gradient(const float* g, const T* gate, const T* up, const T* scale, T* gScale, T* gGate, T* gUp, T* weighted, i64 hidden,
                                            int kind, const Plan& p) {
  __shared__ float scratch[32];
  const i64 slot = blockIdx.x;
  const int choice = p.order[slot];
  if (choice < 0) return;
  const float w = widen(scale[choice]);
  float dot = 0;
  for (i64 i = slot * hidden + threadIdx.x; i < (slot + 1) * hidden; i += blockDim.x) {
    const float u = widen(up[i]), pre = gate ? widen(gate[i]) : u, act = activate(kind, pre), inner = gate ? act * u : act, own = w * g[i];
    dot += inner * g[i];
    weighted[i] = narrow<T>(w * inner);
    if (gate) gGate[i] = narrow<T>(own * u * slope(kind, pre)), gUp[i] = narrow<T>(own * act);
    else gUp[i] = narrow<T>(own * slope(kind, pre));
  }
  dot = blockSum(dot, scratch);
  if (threadIdx.x == 0) gScale[choice] = narrow<T>(dot);
}

#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS)
#define MOE(name, T)                                                                                                                                 \
  KERNEL moe_rows_##name(const T* a, const T* weight, T* y, i64 n, i64 k, int turned, int gathered, int accumulate, Plan p) {                       \
    rows<T, T>(a, weight, y, n, k, turned, gathered, accumulate, p);                                                                                 \
  }                                                                                                                                                  \
  KERNEL moe_wide_rows_##name(const T* a, const T* weight, float* y, i64 n, i64 k, int turned, int gathered, int accumulate, Plan p) {              \
    rows<T, float>(a, weight, y, n, k, turned, gathered, accumulate, p);                                                                             \
  }                                                                                                                                                  \
  KERNEL moe_weights_##name(const T* a, const T* b, float* g, i64 m, i64 n, int aGathered, int bGathered, Plan p) {                                 \
    weights<T>(a, b, g, m, n, aGathered, bGathered, p);                                                                                              \
  }                                                                                                                                                  \
  KERNEL moe_inner_##name(const T* gate, const T* up, T* inner, i64 n, int kind) { inside<T>(gate, up, inner, n, kind); }                           \
  KERNEL moe_combine_##name(const float* from, const T* scale, T* y, i64 width, Plan p) { combine<T>(from, scale, y, width, p); }                   \
  KERNEL moe_gradient_##name(const float* g, const T* gate, const T* up, const T* scale, T* gScale, T* gGate, T* gUp, T* weighted, i64 hidden,      \
                             int kind, Plan p) {                                                                                                     \
    gradient<T>(g, gate, up, scale, gScale, gGate, gUp, weighted, hidden, kind, p);                                                                  \
  }
MOE(float32, float)
MOE(bf16, bf16)
MOE(f16, f16)
