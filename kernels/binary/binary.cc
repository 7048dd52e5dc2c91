// binary: y = f(a, b), broadcast as in NumPy. Definitions: packages/backend/src/primitives.ts (BinaryOp).
// The backend merges axes that both operands cross alike, so that equal shapes are one run. max and min pass NaN on; int32 wraps.
#include "common/math.h"
#include "common/runs.h"

namespace {
__attribute__((noinline)) f4 pow4(f4 a, f4 b) {
  f4 y;
  for (u32 i = 0; i < 4; i++) y[i] = powf(a[i], b[i]);
  // JavaScript's: 1 ** NaN and 1 ** Infinity are NaN.
  const i4 one = (a == splat(1.0f)) | (a == splat(-1.0f));
  const i4 odd = (b != b) | (((i4)b & 0x7fffffff) == 0x7f800000);
  return select(one & odd, splat(__builtin_nanf("")), y);
}
}  // namespace

// Order of `op`: binaryOps in packages/backend-wasm/src/primitives/elementwise.ts.
EXPORT(binary)(float* y, const float* a, const float* b, u32 rank, const i32* spec, u32 op) {
  switch (op) {
    case 0: return broadcast_pairs(y, a, b, rank, spec, [](f4 p, f4 q) { return p + q; });
    case 1: return broadcast_pairs(y, a, b, rank, spec, [](f4 p, f4 q) { return p - q; });
    case 2: return broadcast_pairs(y, a, b, rank, spec, [](f4 p, f4 q) { return p * q; });
    case 3: return broadcast_pairs(y, a, b, rank, spec, [](f4 p, f4 q) { return p / q; });
    case 4: return broadcast_pairs(y, a, b, rank, spec, [](f4 p, f4 q) { return ((p > q) | (p != p)) ? p : q; });
    case 5: return broadcast_pairs(y, a, b, rank, spec, [](f4 p, f4 q) { return ((p < q) | (p != p)) ? p : q; });
    case 6: return broadcast_pairs(y, a, b, rank, spec, [](f4 p, f4 q) { return pow4(p, q); });
  }
}

EXPORT(binary_int)(i32* y, const i32* a, const i32* b, u32 rank, const i32* spec, u32 op) {
  switch (op) {
    case 0: return broadcast_pairs(y, a, b, rank, spec, [](i4 p, i4 q) { return (i4)((u4)p + (u4)q); });
    case 1: return broadcast_pairs(y, a, b, rank, spec, [](i4 p, i4 q) { return (i4)((u4)p - (u4)q); });
    case 2: return broadcast_pairs(y, a, b, rank, spec, [](i4 p, i4 q) { return (i4)((u4)p * (u4)q); });
    case 4: return broadcast_pairs(y, a, b, rank, spec, [](i4 p, i4 q) { return p > q ? p : q; });
    case 5: return broadcast_pairs(y, a, b, rank, spec, [](i4 p, i4 q) { return p < q ? p : q; });
  }
}
