// Elementwise primitives: one thread an element, broadcasting by strides of 0. Bytes moved: each operand once, the result once.
#include "../common/chain.cuh"
#include "../common/types.cuh"

// A broadcast of up to three operands, outermost axis first; axes that all of them cross alike have been merged.
struct Axes {
  i64 rank, size[6], a[6], b[6], c[6];
};
struct At {
  i64 a, b, c;
};
__device__ __forceinline__ At locate(const Axes& axes, i64 i) {
  At at{0, 0, 0};
  for (int d = (int)axes.rank - 1; d >= 0; d--) {
    const i64 rest = i / axes.size[d], k = i - rest * axes.size[d];
    at.a += k * axes.a[d];
    at.b += k * axes.b[d];
    at.c += k * axes.c[d];
    i = rest;
  }
  return at;
}

template <class W> __device__ W unaryOf(int op, W x) {
  switch (op) {
    case 0: return -x;
    case 1: return x < W(0) ? -x : x == W(0) ? W(0) : x;
    case 2: return x > W(0) ? W(1) : x < W(0) ? W(-1) : x;
    case 3: return exp(x);
    case 4: return log(x);
    case 5: return sqrt(x);
    case 6: return W(1) / sqrt(x);
    case 7: return W(1) / x;
    case 8: return sin(x);
    case 9: return cos(x);
    case 10: return tanh(x);
    case 11: return sigmoid(x);
    case 12: return softplus(x);
    case 13: return erf(x);
    default: return floor(x);
  }
}
template <> __device__ int unaryOf<int>(int op, int x) {
  return op == 0 ? (int)(0u - (unsigned)x) : op == 1 ? abs(x) : op == 2 ? (x > 0) - (x < 0) : x;
}

// NaN passes through max and min, as everywhere in this project; CUDA's fmax drops it.
template <class W> __device__ W binaryOf(int op, W a, W b) {
  switch (op) {
    case 0: return a + b;
    case 1: return a - b;
    case 2: return a * b;
    case 3: return a / b;
    case 4: return a != a ? a : b != b ? b : a > b ? a : b;
    case 5: return a != a ? a : b != b ? b : a < b ? a : b;
    default: return pow(a, b);
  }
}
template <> __device__ int binaryOf<int>(int op, int a, int b) {
  const unsigned x = a, y = b;
  return op == 0 ? x + y : op == 1 ? x - y : op == 2 ? x * y : op == 4 ? max(a, b) : min(a, b);
}

template <class W> __device__ int compared(int op, W a, W b) {
  switch (op) {
    case 0: return a == b;
    case 1: return a != b;
    case 2: return a < b;
    case 3: return a <= b;
    case 4: return a > b;
    default: return a >= b;
  }
}

#define KERNELS(name, T)                                                                                                      \
  extern "C" __global__ void fill_##name(T* y, double value, i64 n) {                                                         \
    const T v = narrow<T>((Wide<T>)value);                                                                                    \
    EACH_ELEMENT(i, n) y[i] = v;                                                                                              \
  }                                                                                                                           \
  extern "C" __global__ void unary_##name(const T* x, T* y, i64 n, int op) {                                                  \
    EACH_ELEMENT(i, n) y[i] = narrow<T>(unaryOf<Wide<T>>(op, widen(x[i])));                                                   \
  }                                                                                                                           \
  extern "C" __global__ void binary_##name(const T* a, const T* b, T* y, i64 n, Axes axes, int op) {                          \
    EACH_ELEMENT(i, n) {                                                                                                      \
      const At at = locate(axes, i);                                                                                          \
      y[i] = narrow<T>(binaryOf<Wide<T>>(op, widen(a[at.a]), widen(b[at.b])));                                                \
    }                                                                                                                         \
  }                                                                                                                           \
  extern "C" __global__ void compare_##name(const T* a, const T* b, int* y, i64 n, Axes axes, int op) {                       \
    EACH_ELEMENT(i, n) {                                                                                                      \
      const At at = locate(axes, i);                                                                                          \
      y[i] = compared<Wide<T>>(op, widen(a[at.a]), widen(b[at.b]));                                                           \
    }                                                                                                                         \
  }                                                                                                                           \
  extern "C" __global__ void where_##name(const int* c, const T* a, const T* b, T* y, i64 n, Axes axes) {                     \
    EACH_ELEMENT(i, n) {                                                                                                      \
      const At at = locate(axes, i);                                                                                          \
      y[i] = c[at.a] != 0 ? a[at.b] : b[at.c];                                                                                \
    }                                                                                                                         \
  }
EACH_DTYPE(KERNELS)

// Two operands of the result's shape: 16 bytes of each at a time. `n` is in elements; the last pack may reach into what an allocation is rounded up to.
template <class T> struct alignas(16) Pack {
  T values[16 / sizeof(T)];
};
#define SAME(name, T)                                                                                                                \
  extern "C" __global__ void binary_same_##name(const Pack<T>* a, const Pack<T>* b, Pack<T>* y, i64 packs, int op) {                \
    EACH_ELEMENT(i, packs) {                                                                                                        \
      const Pack<T> p = a[i], q = b[i];                                                                                             \
      Pack<T> r;                                                                                                                    \
      _Pragma("unroll") for (int k = 0; k < 16 / sizeof(T); k++)                                                                    \
          r.values[k] = narrow<T>(binaryOf<Wide<T>>(op, widen(p.values[k]), widen(q.values[k])));                                   \
      y[i] = r;                                                                                                                     \
    }                                                                                                                               \
  }
EACH_DTYPE(SAME)

// To int32 truncates towards zero; float64 is rounded once.
template <class From, class To> __device__ __forceinline__ To converted(From x) { return narrow<To>((Wide<To>)widen(x)); }
#define CAST(from, F, to, T)                                                                \
  extern "C" __global__ void cast_##from##_##to(const F* x, T* y, i64 n) {                  \
    EACH_ELEMENT(i, n) y[i] = converted<F, T>(x[i]);                                        \
  }
// Between float32 and the halves: 4 elements at a time.
template <class T> struct alignas(4 * sizeof(T)) Quad {
  T values[4];
};
#define CAST_QUADS(from, F, to, T)                                                                        \
  extern "C" __global__ void cast_quads_##from##_##to(const Quad<F>* x, Quad<T>* y, i64 n) {              \
    awaitPrevious();                                                                                      \
    letNext();                                                                                            \
    EACH_ELEMENT(i, n) {                                                                                  \
      const Quad<F> p = x[i];                                                                             \
      Quad<T> r;                                                                                          \
      _Pragma("unroll") for (int k = 0; k < 4; k++) r.values[k] = converted<F, T>(p.values[k]);           \
      y[i] = r;                                                                                           \
    }                                                                                                     \
  }
CAST_QUADS(float32, float, bf16, bf16)
CAST_QUADS(float32, float, f16, f16)
CAST_QUADS(bf16, bf16, float32, float)
CAST_QUADS(f16, f16, float32, float)
#define CASTS(from, F)           \
  CAST(from, F, float32, float)  \
  CAST(from, F, float64, double) \
  CAST(from, F, bf16, bf16)      \
  CAST(from, F, f16, f16)        \
  CAST(from, F, int32, int)
EACH_DTYPE(CASTS)
