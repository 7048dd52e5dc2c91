// rmsNorm and layerNorm: s = x + residual, y = (s - mean) scale weight + bias, scale = 1 / sqrt(mean square of (s - mean) + eps); RMS: mean = 0.
// x, residual (0), sum (0 without residual), y [rows, width]; weight (0), bias (0) [width]. Statistics are float32, in four partial sums.
#include "common/math.h"
#include "common/parallel.h"

namespace {
template <class F>
INLINE float row_sum(u32 width, F f) {
  f4 s[4] = {};
  u32 i = 0;
  for (; i + 16 <= width; i += 16)
    for (u32 j = 0; j < 4; j++) s[j] += f(i + 4 * j, 4u);
  for (; i < width; i += 4) s[0] += f(i, min(4, width - i));
  return sum4((s[0] + s[1]) + (s[2] + s[3]));
}

// Lanes past the end are no deviation from the mean.
INLINE f4 centre(f4 v, f4 mean, u32 lanes) {
  f4 d = v - mean;
  for (u32 r = lanes; r < 4; r++) d[r] = 0;
  return d;
}

INLINE void statistics(const float* s, u32 width, float eps, bool centred, float& mean, float& scale) {
  mean = centred ? row_sum(width, [&](u32 i, u32 lanes) { return get(s + i, lanes); }) / (float)width : 0;
  const f4 m = splat(mean);
  const float squares = row_sum(width, [&](u32 i, u32 lanes) {
    const f4 d = lanes == 4 ? load(s + i) - m : centre(load_part(s + i, lanes), m, lanes);
    return d * d;
  });
  scale = 1.0f / __builtin_sqrtf(squares / (float)width + eps);
}
}  // namespace

EXPORT(norm)(float* y, float* sum, const float* x, const float* residual, const float* weight, const float* bias, u32 rows,
             u32 width, float eps, u32 centred) {
  parallel_for(rows, max(1, 8192 / max(1, width)), [&](u32 r, u32 end) {
    for (; r < end; r++) {
      const float* s = x + r * width;
      if (sum) {
        float* to = sum + r * width;
        for (u32 i = 0; i < width; i++) to[i] = s[i] + residual[r * width + i];
        s = to;
      }
      float mean, scale;
      statistics(s, width, eps, centred != 0, mean, scale);
      for (u32 i = 0; i < width; i += 4) {
        const u32 lanes = min(4, width - i);
        f4 v = (get(s + i, lanes) - splat(mean)) * splat(scale);
        if (weight) v *= get(weight + i, lanes);
        if (bias) v += get(bias + i, lanes);
        put(y + r * width + i, v, lanes);
      }
    }
  });
}

// With n = (s - mean) scale and g = gy weight: gs = scale (g - mean(g) - n mean(g n)) + gsum; the middle term for layer norm only.
// gy, gsum: 0 if nothing depends on them. gweight, gbias: 0 if not wanted. moments: scratch, [rows, 2].
EXPORT(norm_backward)(float* gs, float* gweight, float* gbias, const float* s, const float* weight, const float* gy,
                      const float* gsum, float* moments, u32 rows, u32 width, float eps, u32 centred) {
  parallel_for(rows, max(1, 4096 / max(1, width)), [&](u32 r, u32 end) {
    for (; r < end; r++) {
      const float *row = s + r * width, *g = gy ? gy + r * width : nullptr;
      float mean, scale, mean_g = 0, mean_gn = 0;
      statistics(row, width, eps, centred != 0, mean, scale);
      moments[2 * r] = mean;
      moments[2 * r + 1] = scale;
      const auto weighted = [&](u32 i, u32 lanes) {
        const f4 v = get(g + i, lanes);
        return weight ? v * get(weight + i, lanes) : v;
      };
      const auto normal = [&](u32 i, u32 lanes) { return (get(row + i, lanes) - splat(mean)) * splat(scale); };
      if (g) {
        if (centred) mean_g = row_sum(width, weighted) / (float)width;
        mean_gn = row_sum(width, [&](u32 i, u32 lanes) { return weighted(i, lanes) * normal(i, lanes); }) / (float)width;
      }
      for (u32 i = 0; i < width; i += 4) {
        const u32 lanes = min(4, width - i);
        f4 v = {};
        if (g) v = splat(scale) * (weighted(i, lanes) - splat(mean_g) - normal(i, lanes) * splat(mean_gn));
        if (gsum) v += get(gsum + r * width + i, lanes);
        put(gs + r * width + i, v, lanes);
      }
    }
  });
  if (!gweight && !gbias) return;
  parallel_for(ceil_div(width, 4), max(1, 4096 / max(1, rows)), [&](u32 item, u32 end) {
    for (; item < end; item++) {
      const u32 i = item * 4, lanes = min(4, width - i);
      f4 w = {}, b = {};
      for (u32 r = 0; r < rows && gy; r++) {
        const f4 g = get(gy + r * width + i, lanes);
        b += g;
        w += g * ((get(s + r * width + i, lanes) - splat(moments[2 * r])) * splat(moments[2 * r + 1]));
      }
      if (gweight) put(gweight + i, w, lanes);
      if (gbias) put(gbias + i, b, lanes);
    }
  });
}
