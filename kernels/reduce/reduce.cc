// reduce: sum or maximum over the middle axis of x [outer, n, inner] -> y [outer, inner].
// Sums: float32 over stretches of 512 (in 16 or, across rows, 1 partial sum per column), those in float64. Maxima pass NaN on.
#include "common/parallel.h"

namespace {
constexpr u32 STRETCH = 512, COLUMNS = 16;

double row_sum(const float* x, u32 n) {
  double total = 0;
  for (u32 start = 0; start < n; start += STRETCH) {
    const u32 end = min(n, start + STRETCH);
    f4 s0 = {}, s1 = {}, s2 = {}, s3 = {};
    u32 i = start;
    for (; i + 16 <= end; i += 16) {
      s0 += load(x + i);
      s1 += load(x + i + 4);
      s2 += load(x + i + 8);
      s3 += load(x + i + 12);
    }
    for (; i + 4 <= end; i += 4) s0 += load(x + i);
    if (i < end) s1 += load_part(x + i, end - i);
    total += (double)sum4((s0 + s1) + (s2 + s3));
  }
  return total;
}

void column_sums(float* y, const float* x, u32 n, u32 inner, u32 width) {
  double total[COLUMNS] = {};
  for (u32 start = 0; start < n; start += STRETCH) {
    const u32 end = min(n, start + STRETCH);
    float part[COLUMNS] = {};
    if (width == COLUMNS) {
      f4 s[4] = {};
      for (u32 k = start; k < end; k++)
        for (u32 j = 0; j < 4; j++) s[j] += load(x + k * inner + 4 * j);
      for (u32 j = 0; j < 4; j++) store(part + 4 * j, s[j]);
    } else
      for (u32 k = start; k < end; k++)
        for (u32 j = 0; j < width; j++) part[j] += x[k * inner + j];
    for (u32 j = 0; j < width; j++) total[j] += (double)part[j];
  }
  for (u32 j = 0; j < width; j++) y[j] = (float)total[j];
}

template <class T>
INLINE bool exceeds(T a, T best) {
  return a > best || a != a;
}

// An item is up to 16 columns of one outer row.
template <class F>
INLINE void for_columns(u32 outer, u32 n, u32 inner, F f) {
  const u32 blocks = ceil_div(inner, COLUMNS);
  parallel_for(outer * blocks, max(1, 4096 / max(1, n * min(inner, COLUMNS))), [&](u32 begin, u32 end) {
    for (u32 item = begin; item < end; item++) {
      const u32 o = item / blocks, column = (item - o * blocks) * COLUMNS;
      f(o * n * inner + column, o * inner + column, min(COLUMNS, inner - column));
    }
  });
}

template <class T>
INLINE void maxima(T* y, const T* x, u32 outer, u32 n, u32 inner, T least) {
  for_columns(outer, n, inner, [&](u32 from, u32 to, u32 width) {
    T best[COLUMNS];
    for (u32 j = 0; j < width; j++) best[j] = least;
    for (u32 k = 0; k < n; k++)
      for (u32 j = 0; j < width; j++) {
        const T v = x[from + k * inner + j];
        best[j] = exceeds(v, best[j]) ? v : best[j];
      }
    for (u32 j = 0; j < width; j++) y[to + j] = best[j];
  });
}
}  // namespace

EXPORT(reduce_sum)(float* y, const float* x, u32 outer, u32 n, u32 inner) {
  if (inner == 1)
    return parallel_for(outer, max(1, 8192 / max(1, n)), [&](u32 o, u32 end) {
      for (; o < end; o++) y[o] = (float)row_sum(x + o * n, n);
    });
  for_columns(outer, n, inner, [&](u32 from, u32 to, u32 width) { column_sums(y + to, x + from, n, inner, width); });
}

EXPORT(reduce_sum_int)(i32* y, const i32* x, u32 outer, u32 n, u32 inner) {
  for_columns(outer, n, inner, [&](u32 from, u32 to, u32 width) {
    for (u32 j = 0; j < width; j++) {
      u32 total = 0;
      for (u32 k = 0; k < n; k++) total += (u32)x[from + k * inner + j];
      y[to + j] = (i32)total;
    }
  });
}

EXPORT(reduce_max)(float* y, const float* x, u32 outer, u32 n, u32 inner) {
  maxima(y, x, outer, n, inner, -__builtin_inff());
}

EXPORT(reduce_max_int)(i32* y, const i32* x, u32 outer, u32 n, u32 inner) {
  maxima(y, x, outer, n, inner, (i32)0x80000000);
}
