// compare: y = (a op b) ? 1 : 0 as int32, broadcast as in NumPy. Any comparison with NaN but `ne` is 0.
#include "common/runs.h"

namespace {
template <class T>
INLINE void dispatch(i32* y, const T* a, const T* b, u32 rank, const i32* spec, u32 op) {
  switch (op) {
    case 0: return broadcast_pairs(y, a, b, rank, spec, [](auto p, auto q) { return (p == q) & 1; });
    case 1: return broadcast_pairs(y, a, b, rank, spec, [](auto p, auto q) { return (p != q) & 1; });
    case 2: return broadcast_pairs(y, a, b, rank, spec, [](auto p, auto q) { return (p < q) & 1; });
    case 3: return broadcast_pairs(y, a, b, rank, spec, [](auto p, auto q) { return (p <= q) & 1; });
    case 4: return broadcast_pairs(y, a, b, rank, spec, [](auto p, auto q) { return (p > q) & 1; });
    case 5: return broadcast_pairs(y, a, b, rank, spec, [](auto p, auto q) { return (p >= q) & 1; });
  }
}
}  // namespace

// Order of `op`: compareOps in packages/backend-wasm/src/primitives/elementwise.ts.
EXPORT(compare)(i32* y, const float* a, const float* b, u32 rank, const i32* spec, u32 op) {
  dispatch(y, a, b, rank, spec, op);
}

EXPORT(compare_int)(i32* y, const i32* a, const i32* b, u32 rank, const i32* spec, u32 op) {
  dispatch(y, a, b, rank, spec, op);
}
