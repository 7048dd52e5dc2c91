// unary: y[i] = f(x[i]), elementwise. Definitions: packages/backend/src/primitives.ts (UnaryOp).
// x, y [n], float32 (neg, abs, sign: int32 too). Bytes moved: 8 n. Lanes past the end are computed and not stored.
#include "common/math.h"
#include "common/parallel.h"

namespace {
template <class T, class F>
INLINE void map(T* y, const T* x, u32 n, F f) {
  parallel_elements(n, [&](u32 i, u32 end) {
    for (; i + 4 <= end; i += 4) store(y + i, f(load(x + i)));
    if (i < end) store_part(y + i, f(load_part(x + i, end - i)), end - i);
  });
}

template <class F>
INLINE void map_scalar(float* y, const float* x, u32 n, F f) {
  parallel_elements(n, [&](u32 i, u32 end) {
    for (; i < end; i++) y[i] = f(x[i]);
  });
}

INLINE f4 sqrt4(f4 v) { return __builtin_elementwise_sqrt(v); }
}  // namespace

// Order of `op`: unaryOps in packages/backend-wasm/src/primitives/elementwise.ts.
EXPORT(unary)(float* y, const float* x, u32 n, u32 op) {
  const f4 one = splat(1.0f), zero = splat(0.0f);
  switch (op) {
    case 0: return map(y, x, n, [](f4 v) { return -v; });
    case 1: return map(y, x, n, [](f4 v) { return (f4)((i4)v & 0x7fffffff); });
    case 2: return map(y, x, n, [=](f4 v) { return v > zero ? one : v < zero ? -one : v; });
    case 3: return map(y, x, n, [](f4 v) { return exp(v); });
    case 4: return map_scalar(y, x, n, [](float v) { return logf(v); });
    case 5: return map(y, x, n, [](f4 v) { return sqrt4(v); });
    case 6: return map(y, x, n, [=](f4 v) { return one / sqrt4(v); });
    case 7: return map(y, x, n, [=](f4 v) { return one / v; });
    case 8: return map_scalar(y, x, n, [](float v) { return sinf(v); });
    case 9: return map_scalar(y, x, n, [](float v) { return cosf(v); });
    case 10: return map_scalar(y, x, n, [](float v) { return tanhf(v); });
    case 11: return map(y, x, n, [](f4 v) { return sigmoid(v); });
    case 12: return map(y, x, n, [](f4 v) { return softplus(v); });
    case 13: return map(y, x, n, [](f4 v) { return erf(v); });
    case 14: return map(y, x, n, [](f4 v) { return __builtin_elementwise_floor(v); });
  }
}

EXPORT(unary_int)(i32* y, const i32* x, u32 n, u32 op) {
  switch (op) {
    case 0: return map(y, x, n, [](i4 v) { return (i4)(-(u4)v); });
    case 1: return map(y, x, n, [](i4 v) { return v < 0 ? (i4)(-(u4)v) : v; });
    case 2: return map(y, x, n, [](i4 v) { return (v < 0) - (v > 0); });
  }
}
