// where: y = cond != 0 ? a : b, all three broadcast, for any 32-bit dtype. What is not selected is not looked at: NaN never shows.
#include "common/runs.h"

EXPORT(where)(u32* y, const i32* cond, const u32* a, const u32* b, u32 rank, const i32* spec) {
  const u32 r = rank > 0 ? (u32)spec[2 * rank - 1] : 0, s = rank > 0 ? (u32)spec[3 * rank - 1] : 0;
  const u32 t = rank > 0 ? (u32)spec[4 * rank - 1] : 0;
  for_runs<3>(rank, spec, [&](u32 to, u32 n, const u32* from) {
    const i32* c = cond + from[0];
    const u32 *p = a + from[1], *q = b + from[2];
    for (u32 i = 0; i < n; i++) y[to + i] = c[i * r] != 0 ? p[i * s] : q[i * t];
  });
}
