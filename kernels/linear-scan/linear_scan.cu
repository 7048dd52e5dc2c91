// h[t] = a[t] h[t-1] + b[t] along the middle axis of [outer, n, inner]: one thread a channel, in order. Bytes moved: a, b and h once.
#include "../common/types.cuh"

#define SCAN(name, T)                                                                                                       \
  extern "C" __global__ void linear_scan_##name(const T* a, const T* b, T* h, i64 channels, i64 n, i64 inner, int reverse) { \
    EACH_ELEMENT(c, channels) {                                                                                             \
      const i64 start = c / inner * n * inner + c % inner;                                                                  \
      Wide<T> state = 0;                                                                                                    \
      for (i64 k = 0; k < n; k++) {                                                                                         \
        const i64 at = start + (reverse ? n - 1 - k : k) * inner;                                                           \
        state = k == 0 ? widen(b[at]) : widen(a[at]) * state + widen(b[at]);                                                \
        h[at] = narrow<T>(state);                                                                                           \
      }                                                                                                                     \
    }                                                                                                                       \
  }
EACH_FLOAT(SCAN)
