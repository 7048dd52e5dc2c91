// scatterAdd: y [outer, n, inner] = sums of updates [outer, count, inner] at int32 indices [count]; others are dropped.
// A piece of up to 64 columns is one item and adds in index order: deterministic, without atomics.
#include "common/parallel.h"

namespace {
constexpr u32 COLUMNS = 64;

template <class T>
INLINE void scatter(T* y, const T* updates, u32 outer, u32 n, u32 inner, const i32* indices, u32 count) {
  const u32 blocks = ceil_div(inner, COLUMNS);
  parallel_for(outer * blocks, max(1, 4096 / max(1, (n + count) * min(inner, COLUMNS))), [&](u32 item, u32 end) {
    for (; item < end; item++) {
      const u32 o = item / blocks, column = (item - o * blocks) * COLUMNS, width = min(COLUMNS, inner - column);
      T* rows = y + o * n * inner + column;
      const T* from = updates + o * count * inner + column;
      for (u32 k = 0; k < n; k++)
        for (u32 i = 0; i < width; i++) rows[k * inner + i] = 0;
      for (u32 k = 0; k < count; k++, from += inner) {
        const u32 index = (u32)indices[k];
        if (index >= n) continue;
        T* to = rows + index * inner;
        for (u32 i = 0; i < width; i++) to[i] += from[i];
      }
    }
  });
}
}  // namespace

EXPORT(scatter_add)(float* y, const float* updates, u32 outer, u32 n, u32 inner, const i32* indices, u32 count) {
  scatter(y, updates, outer, n, inner, indices, count);
}

EXPORT(scatter_add_int)(u32* y, const u32* updates, u32 outer, u32 n, u32 inner, const i32* indices, u32 count) {
  scatter(y, updates, outer, n, inner, indices, count);
}
