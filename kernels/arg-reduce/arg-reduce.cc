// argReduce: index of the extreme element over the middle axis of x [outer, n, inner] -> y int32 [outer, inner].
// The first among equals; a NaN is more extreme than any number.
#include "common/parallel.h"

namespace {
template <class T>
INLINE void extremes(i32* y, const T* x, u32 outer, u32 n, u32 inner, bool largest) {
  parallel_for(outer * inner, max(1, 4096 / max(1, n)), [&](u32 item, u32 end) {
    for (; item < end; item++) {
      const u32 o = item / inner;
      const T* row = x + o * n * inner + (item - o * inner);
      u32 best = 0;
      for (u32 k = 1; k < n; k++) {
        const T candidate = row[k * inner], champion = row[best * inner];
        if (champion != champion) break;
        if (candidate != candidate || (largest ? candidate > champion : candidate < champion)) best = k;
      }
      y[item] = (i32)best;
    }
  });
}
}  // namespace

EXPORT(arg_reduce)(i32* y, const float* x, u32 outer, u32 n, u32 inner, u32 largest) {
  extremes(y, x, outer, n, inner, largest != 0);
}

EXPORT(arg_reduce_int)(i32* y, const i32* x, u32 outer, u32 n, u32 inner, u32 largest) {
  extremes(y, x, outer, n, inner, largest != 0);
}
