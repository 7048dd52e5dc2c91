// moe: y[i] = sum_j weights[i, j] expert[indices[i, j]](x[i]), grouped by expert: each one's tokens are one matrix product.
// Expert: down . (activation(gate x) * (up x)), or down . activation(up x). An index outside [0, experts) contributes nothing.
// x, y [tokens, width]; indices int32, weights [tokens, topK]; gate (0), up [experts, hidden, width]; down [experts, width, hidden].
// order: scratch, int32 [experts + 1 + tokens * topK]. rows: scratch, [tokens * topK, 2 width + 2 hidden].
#include "common/math.h"
#include "common/parallel.h"

extern "C" void gemm(const float* a, u32 a_row, u32 a_column, const void* b, u32 b_row, u32 b_column, u32 b_format, float* c,
                     u32 ldc, u32 m, u32 n, u32 k, u32 accumulate, const float* bias);

namespace {
enum Activation : u32 { RELU, SILU, GELU };

INLINE f4 activate(u32 activation, f4 v) {
  if (activation == RELU) return v < splat(0.0f) ? splat(0.0f) : v;
  if (activation == SILU) return silu(v);
  return splat(0.5f) * v * (splat(1.0f) + erf(v * splat(0.70710678f)));
}

INLINE void project(const float* x, const float* weight, float* y, u32 rows, u32 in, u32 out) {
  gemm(x, in, 1, weight, 1, in, 0, y, out, rows, out, in, 0, nullptr);
}
}  // namespace

// words: tokens, width, hidden, experts, topK, activation, x, indices, weights, gate, up, down, order, rows.
EXPORT(moe)(float* y, const u32* w) {
  const u32 tokens = w[0], width = w[1], hidden = w[2], experts = w[3], top_k = w[4], activation = w[5], pairs = tokens * top_k;
  const float *x = (const float*)w[6], *weights = (const float*)w[8];
  const float *gate = (const float*)w[9], *up = (const float*)w[10], *down = (const float*)w[11];
  const i32* indices = (const i32*)w[7];
  u32 *start = (u32*)w[12], *order = start + experts + 1;
  float *in = (float*)w[13], *out = in + pairs * width, *inner = out + pairs * width, *gates = inner + pairs * hidden;
  // Pairs of token and choice by expert, in order of the tokens.
  for (u32 e = 0, n = 0; e <= experts; e++) {
    start[e] = n;
    for (u32 p = 0; p < pairs && e < experts; p++)
      if (indices[p] == (i32)e) order[n++] = p;
  }
  for (u32 i = 0; i < tokens * width; i++) y[i] = 0;
  for (u32 e = 0; e < experts; e++) {
    const u32 rows = start[e + 1] - start[e];
    if (rows == 0) continue;
    const u32* own = order + start[e];
    for (u32 r = 0; r < rows; r++) __builtin_memcpy(in + r * width, x + own[r] / top_k * width, width * sizeof(float));
    project(in, up + e * hidden * width, inner, rows, width, hidden);
    if (gate) project(in, gate + e * hidden * width, gates, rows, width, hidden);
    parallel_elements(rows * hidden, [&](u32 i, u32 end) {
      for (; i < end; i += 4) {
        const u32 lanes = end - i;
        const f4 v = get(inner + i, lanes);
        put(inner + i, gate ? activate(activation, get(gates + i, lanes)) * v : activate(activation, v), lanes);
      }
    });
    project(inner, down + e * width * hidden, out, rows, hidden, width);
    for (u32 r = 0; r < rows; r++)
      for (u32 i = 0; i < width; i++) y[own[r] / top_k * width + i] += weights[own[r]] * out[r * width + i];
  }
}
