// One AdamW step over up to MAX tensors a launch (blockIdx.y), in place. Bytes: p, m and v twice, g once.
#include "../common/types.cuh"

constexpr int MAX = 48;
struct Tensors {
  void *p[MAX], *m[MAX], *v[MAX];
  const void* g[MAX];
  i64 n[MAX];
  double decay[MAX];
};

template <class T> __device__ void step(const Tensors& s, double lr, double beta1, double beta2, double eps, double correct1, double correct2,
                                        double scale) {
  const int k = blockIdx.y;
  T *p = (T*)s.p[k], *m = (T*)s.m[k], *v = (T*)s.v[k];
  const T *g = (const T*)s.g[k], decay = s.decay[k];
  EACH_ELEMENT(i, s.n[k]) {
    const T gi = g[i] * (T)scale;
    const T mi = (T)beta1 * m[i] + (T)(1 - beta1) * gi, vi = (T)beta2 * v[i] + (T)(1 - beta2) * gi * gi;
    m[i] = mi;
    v[i] = vi;
    p[i] -= (T)lr * ((mi * (T)correct1) / (sqrt(vi * (T)correct2) + (T)eps) + decay * p[i]);
  }
}
extern "C" __global__ void adamw_float32(Tensors s, double lr, double b1, double b2, double eps, double c1, double c2, double scale) {
  step<float>(s, lr, b1, b2, eps, c1, c2, scale);
}
extern "C" __global__ void adamw_float64(Tensors s, double lr, double b1, double b2, double eps, double c1, double c2, double scale) {
  step<double>(s, lr, b1, b2, eps, c1, c2, scale);
}
