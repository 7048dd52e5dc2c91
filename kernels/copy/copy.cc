// copy: moves elements between two strided layouts; `copy`, `pad`, `concat` and `kvAppend` are made of it.
// spec: `rank` axis lengths, then x's strides, then y's, in elements; 0 repeats, negative ones run backwards.
#include "common/parallel.h"

namespace {
template <class T>
void move(T* y, const T* x, u32 rank, const i32* spec) {
  const u32 outer_axes = rank == 0 ? 0 : rank - 1;
  const u32 inner = rank == 0 ? 1 : (u32)spec[rank - 1];
  const i32 x_step = rank == 0 ? 1 : spec[2 * rank - 1], y_step = rank == 0 ? 1 : spec[3 * rank - 1];
  if (rank <= 1 && x_step == 1 && y_step == 1) {
    parallel_elements(inner, [&](u32 i, u32 end) { __builtin_memcpy(y + i, x + i, (end - i) * sizeof(T)); });
    return;
  }
  u32 rows = 1;
  for (u32 d = 0; d < outer_axes; d++) rows *= (u32)spec[d];
  parallel_for(rows, max(1, 8192 / max(1, inner)), [&](u32 begin, u32 end) {
    for (u32 item = begin; item < end; item++) {
      u32 row = item;
      i32 from = 0, to = 0;
      for (u32 d = outer_axes; d-- > 0;) {
        const u32 next = row / (u32)spec[d], index = row - next * (u32)spec[d];
        from += (i32)index * spec[rank + d];
        to += (i32)index * spec[2 * rank + d];
        row = next;
      }
      if (x_step == 1 && y_step == 1 && inner > 8)
        __builtin_memcpy(y + to, x + from, inner * sizeof(T));
      else
        for (u32 i = 0; i < inner; i++) y[to + (i32)i * y_step] = x[from + (i32)i * x_step];
    }
  });
}
}  // namespace

EXPORT(copy32)(u32* y, const u32* x, u32 rank, const i32* spec) { move(y, x, rank, spec); }
EXPORT(copy16)(u16* y, const u16* x, u32 rank, const i32* spec) { move(y, x, rank, spec); }
EXPORT(copy8)(u8* y, const u8* x, u32 rank, const i32* spec) { move(y, x, rank, spec); }
