// moe: y[i] = sum_j weights[i, j] expert[indices[i, j]](x[i]), grouped by expert: each one's tokens are one matrix product.
// Expert: down . (activation(gate x) * (up x)), or down . activation(up x). An index outside [0, experts) contributes nothing.
// x, y [tokens, width]; indices int32, weights [tokens, topK]; gate (0), up [experts, hidden, width]; down [experts, width, hidden].
// order: scratch, int32 [experts + 1 + tokens * topK]. rows: scratch, [tokens * topK, 2 width + 2 hidden].
#include "moe.h"

namespace {
INLINE f4 activate(u32 activation, f4 v) {
  if (activation == RELU) return v < splat(0.0f) ? splat(0.0f) : v;
  if (activation == SILU) return silu(v);
  return splat(0.5f) * v * (splat(1.0f) + erf(v * splat(0.70710678f)));
}

INLINE void project(const float* x, const float* weight, float* y, u32 rows, u32 in, u32 out) {
  gemm(x, in, 1, weight, 1, in, 0, y, out, rows, out, in, 0, nullptr);
}
}  // namespace

EXPORT(moe)(float* y, const u32* words) {
  const Moe s = moe_of(words);
  const u32 width = s.width, hidden = s.hidden;
  float *in = s.rows, *out = in + s.pairs * width, *inner = out + s.pairs * width, *gates = inner + s.pairs * hidden;
  group(s);
  for (u32 i = 0; i < s.tokens * width; i++) y[i] = 0;
  for (u32 e = 0; e < s.experts; e++) {
    const u32 rows = s.start[e + 1] - s.start[e];
    if (rows == 0) continue;
    const u32* own = s.order + s.start[e];
    for (u32 r = 0; r < rows; r++)
      __builtin_memcpy(in + r * width, s.x + own[r] / s.top_k * width, width * sizeof(float));
    project(in, s.up + e * hidden * width, inner, rows, width, hidden);
    if (s.gate) project(in, s.gate + e * hidden * width, gates, rows, width, hidden);
    parallel_elements(rows * hidden, [&](u32 i, u32 end) {
      for (; i < end; i += 4) {
        const u32 lanes = end - i;
        const f4 v = get(inner + i, lanes);
        put(inner + i, s.gate ? activate(s.activation, get(gates + i, lanes)) * v : activate(s.activation, v), lanes);
      }
    });
    project(inner, s.down + e * width * hidden, out, rows, hidden, width);
    for (u32 r = 0; r < rows; r++)
      for (u32 i = 0; i < width; i++) y[own[r] / s.top_k * width + i] += s.weights[own[r]] * out[r * width + i];
  }
}
