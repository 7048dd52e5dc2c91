// gather: y [outer, count, inner] = x [outer, n, inner] at int32 indices [count] along the middle axis; outside it, zeros.
// Rows are moved as they are stored; q8_0 rows come out as float32.
#include "common/half.h"
#include "common/parallel.h"

namespace {
template <class F>
INLINE void for_rows(u32 outer, u32 n, u32 inner, const i32* indices, u32 count, F f) {
  parallel_for(outer * count, max(1, 8192 / max(1, inner)), [&](u32 item, u32 end) {
    for (; item < end; item++) {
      const u32 o = item / count, index = (u32)indices[item - o * count];
      f(item, index < n, o * n + index);
    }
  });
}

template <class T>
INLINE void rows(T* y, const T* x, u32 outer, u32 n, u32 inner, const i32* indices, u32 count) {
  for_rows(outer, n, inner, indices, count, [&](u32 to, bool inside, u32 from) {
    T* row = y + to * inner;
    if (!inside) __builtin_memset(row, 0, inner * sizeof(T));
    else if (inner > 8) __builtin_memcpy(row, x + from * inner, inner * sizeof(T));
    else
      for (u32 i = 0; i < inner; i++) row[i] = x[from * inner + i];
  });
}
}  // namespace

EXPORT(gather32)(u32* y, const u32* x, u32 outer, u32 n, u32 inner, const i32* indices, u32 count) {
  rows(y, x, outer, n, inner, indices, count);
}

EXPORT(gather16)(u16* y, const u16* x, u32 outer, u32 n, u32 inner, const i32* indices, u32 count) {
  rows(y, x, outer, n, inner, indices, count);
}

// `inner` is a whole number of blocks.
EXPORT(gather_q8)(float* y, const u8* x, u32 outer, u32 n, u32 inner, const i32* indices, u32 count) {
  for_rows(outer, n, inner, indices, count, [&](u32 to, bool inside, u32 from) {
    const u8* block = x + from * (inner / Q8) * Q8_BYTES;
    for (u32 i = 0; i < inner; i += Q8, block += Q8_BYTES)
      for (u32 j = 0; j < Q8; j += 4)
        store(y + to * inner + i + j, inside ? splat(q8_scale(block)) * q8_values(block, j) : f4{});
  });
}
