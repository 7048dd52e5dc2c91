// activation: y [rows, width] of x, whose rows lie `stride` apart. kind 0, gelu: x Phi(x) with the normal distribution's Phi, x [rows, width].
// kind 1, glu: a sigmoid(b) with a = x[:, :width], b = x[:, width:], x [rows, 2 width]. Bytes moved: 8 and 12 an element; 12 and 20 backwards.
#include "common/math.h"
#include "common/parallel.h"

namespace {
INLINE f4 normal_cdf(f4 x) { return splat(0.5f) + splat(0.5f) * erf(x * splat(0.707106781f)); }

INLINE u32 grain(u32 width) { return max(1, 8192 / max(1, width)); }
}  // namespace

EXPORT(activation)(float* y, const float* x, u32 stride, u32 rows, u32 width, u32 kind) {
  parallel_for(rows, grain(width), [&](u32 r, u32 end) {
    for (; r < end; r++)
      for (u32 i = 0; i < width; i += 4) {
        const u32 lanes = min(4, width - i);
        const float* from = x + r * stride + i;
        const f4 a = get(from, lanes);
        put(y + r * width + i, kind == 0 ? a * normal_cdf(a) : a * sigmoid(get(from + width, lanes)), lanes);
      }
  });
}

// gx is dense, of x's shape.
EXPORT(activation_backward)(float* gx, const float* gy, const float* x, u32 stride, u32 rows, u32 width, u32 kind) {
  parallel_for(rows, grain(width), [&](u32 r, u32 end) {
    for (; r < end; r++)
      for (u32 i = 0; i < width; i += 4) {
        const u32 lanes = min(4, width - i);
        const float* from = x + r * stride + i;
        const f4 a = get(from, lanes), g = get(gy + r * width + i, lanes);
        if (kind == 0) {
          const f4 density = exp(a * a * splat(-0.5f)) * splat(0.398942280f);
          put(gx + r * width + i, g * (normal_cdf(a) + a * density), lanes);
          continue;
        }
        const f4 s = sigmoid(get(from + width, lanes));
        float* to = gx + 2 * r * width + i;
        put(to, g * s, lanes);
        put(to + width, g * a * s * (splat(1.0f) - s), lanes);
      }
  });
}
