// moe / backward - gradients of moe.cc, expert by expert: inner values are computed anew, each gradient is a matrix product.
// gy [tokens, width]; gx [tokens, width], gWeights [tokens, topK], gGate, gUp [experts, hidden, width], gDown [experts, width, hidden].
// An address of 0 among the gradients: not wanted. rows: scratch, [tokens * topK, 2 width + 4 hidden].
#include "moe.h"

namespace {
struct Slope {
  f4 value, slope;
};
INLINE Slope activation_slope(u32 activation, f4 v) {
  if (activation == RELU) return {v > splat(0.0f) ? v : splat(0.0f), v > splat(0.0f) ? splat(1.0f) : splat(0.0f)};
  if (activation == SILU) {
    const f4 s = sigmoid(v);
    return {v * s, silu_gradient(v, s)};
  }
  // gelu(v) = v Phi(v), and its slope Phi(v) + v phi(v).
  const f4 below = splat(0.5f) + splat(0.5f) * erf(v * splat(0.70710678f));
  return {v * below, below + v * splat(0.39894228f) * exp(v * v * splat(-0.5f))};
}

// c [m, n] (+)= a b, any strides of a and b.
INLINE void product(const float* a, u32 a_row, u32 a_column, const float* b, u32 b_row, u32 b_column, float* c, u32 m, u32 n, u32 k,
                    bool add = false) {
  gemm(a, a_row, a_column, b, b_row, b_column, 0, c, n, m, n, k, add, nullptr);
}
INLINE void zero(float* p, u32 n) {
  if (p) __builtin_memset(p, 0, n * sizeof(float));
}
}  // namespace

// words: those of moe, then addresses of gy, gx, gWeights, gGate, gUp, gDown.
EXPORT(moe_backward)(const u32* words) {
  const Moe s = moe_of(words);
  const u32* w = words + 14;
  const u32 width = s.width, hidden = s.hidden, matrix = hidden * width;
  const float* gy = (const float*)w[0];
  float *gx = (float*)w[1], *g_weights = (float*)w[2], *g_gate = (float*)w[3], *g_up = (float*)w[4], *g_down = (float*)w[5];
  float *in = s.rows, *back = in + s.pairs * width, *ups = back + s.pairs * width, *gates = ups + s.pairs * hidden;
  float *slopes = gates + s.pairs * hidden, *inner = slopes + s.pairs * hidden;
  group(s);
  zero(gx, s.tokens * width);
  zero(g_weights, s.pairs);
  for (u32 e = 0; e < s.experts; e++) {
    const u32 rows = s.start[e + 1] - s.start[e];
    const u32* own = s.order + s.start[e];
    const float *up = s.up + e * matrix, *gate = s.gate ? s.gate + e * matrix : nullptr, *down = s.down + e * matrix;
    if (rows == 0) {
      zero(g_gate ? g_gate + e * matrix : nullptr, matrix);
      zero(g_up ? g_up + e * matrix : nullptr, matrix);
      zero(g_down ? g_down + e * matrix : nullptr, matrix);
      continue;
    }
    for (u32 r = 0; r < rows; r++) {
      __builtin_memcpy(in + r * width, s.x + own[r] / s.top_k * width, width * sizeof(float));
      __builtin_memcpy(back + r * width, gy + own[r] / s.top_k * width, width * sizeof(float));
    }
    product(in, width, 1, up, 1, width, ups, rows, hidden, width);
    if (gate) product(in, width, 1, gate, 1, width, gates, rows, hidden, width);
    // Of the inner values, before the router's weight.
    product(back, width, 1, down, hidden, 1, slopes, rows, hidden, width);
    parallel_for(rows, max(1, 4096 / max(1, hidden)), [&](u32 r, u32 end) {
      for (; r < end; r++) {
        const f4 weight = splat(s.weights[own[r]]);
        f4 sum = {};
        for (u32 i = 0; i < hidden; i += 4) {
          const u32 at = r * hidden + i, lanes = min(4, hidden - i);
          const f4 u = get(ups + at, lanes), d = get(slopes + at, lanes);
          const Slope f = activation_slope(s.activation, gate ? get(gates + at, lanes) : u);
          const f4 value = gate ? f.value * u : f.value;
          sum = madd(d, value, sum);
          put(inner + at, value, lanes);
          put(slopes + at, weight * d * (gate ? f.value : f.slope), lanes);
          if (gate) put(gates + at, weight * d * u * f.slope, lanes);
        }
        if (g_weights) g_weights[own[r]] = sum4(sum);
        for (u32 i = 0; i < width; i += 4) {
          const u32 lanes = min(4, width - i);
          put(back + r * width + i, weight * get(back + r * width + i, lanes), lanes);
        }
      }
    });
    if (g_down) product(back, 1, width, inner, hidden, 1, g_down + e * matrix, width, hidden, rows);
    if (g_up) product(slopes, 1, hidden, in, width, 1, g_up + e * matrix, hidden, width, rows);
    if (g_gate) product(gates, 1, hidden, in, width, 1, g_gate + e * matrix, hidden, width, rows);
    if (!gx) continue;
    product(slopes, hidden, 1, up, width, 1, in, rows, width, hidden);
    if (gate) product(gates, hidden, 1, gate, width, 1, in, rows, width, hidden, true);
    for (u32 r = 0; r < rows; r++)
      for (u32 i = 0; i < width; i++) gx[own[r] / s.top_k * width + i] += in[r * width + i];
  }
}
