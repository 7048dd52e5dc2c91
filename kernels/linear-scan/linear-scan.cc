// linearScan: h[t] = a[t] h[t-1] + b[t] over the middle axis of [outer, n, inner]; reverse: from the other end. The first a is not read.
// Lanes are columns; an item is up to 16 of them. A row of its own (inner 1) runs alone.
#include "common/parallel.h"

EXPORT(linear_scan)(float* h, const float* a, const float* b, u32 outer, u32 n, u32 inner, u32 reverse) {
  constexpr u32 COLUMNS = 16;
  const u32 blocks = ceil_div(inner, COLUMNS);
  parallel_for(outer * blocks, max(1, 4096 / max(1, n * min(inner, COLUMNS))), [&](u32 item, u32 end) {
    for (; item < end; item++) {
      const u32 o = item / blocks, column = (item - o * blocks) * COLUMNS, width = min(COLUMNS, inner - column);
      const u32 start = (o * n + (reverse ? n - 1 : 0)) * inner + column;
      const i32 step = reverse ? -(i32)inner : (i32)inner;
      if (n == 0) continue;
      if (width == COLUMNS) {
        f4 s[4];
        for (u32 j = 0; j < 4; j++) store(h + start + 4 * j, s[j] = load(b + start + 4 * j));
        u32 at = start + (u32)step;
        for (u32 k = 1; k < n; k++, at += (u32)step)
          for (u32 j = 0; j < 4; j++)
            store(h + at + 4 * j, s[j] = load(a + at + 4 * j) * s[j] + load(b + at + 4 * j));
      } else
        for (u32 j = 0; j < width; j++) {
          u32 at = start + j;
          float state = h[at] = b[at];
          for (u32 k = 1; k < n; k++) {
            at += (u32)step;
            h[at] = state = a[at] * state + b[at];
          }
        }
    }
  });
}
