// fill: every 32-bit (or 16-bit) word is the given one.
#include "common/parallel.h"

EXPORT(fill32)(u32* y, u32 n, u32 word) {
  parallel_elements(n, [&](u32 i, u32 end) {
    for (; i < end; i++) y[i] = word;
  });
}

EXPORT(fill16)(u16* y, u32 n, u32 word) {
  parallel_elements(n, [&](u32 i, u32 end) {
    for (; i < end; i++) y[i] = (u16)word;
  });
}
