// adamw: one step of AdamW (arXiv:1711.05101) on one parameter, in place. All float32 [n].
//   g = grad_scale grad; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2
//   p -= lr (m correct1 / (sqrt(v correct2) + eps) + decay p)
#include "common/parallel.h"

EXPORT(adamw)(float* p, const float* grad, float* m, float* v, u32 n, float lr, float beta1, float beta2, float rest1, float rest2,
              float eps, float correct1, float correct2, float decay, float grad_scale) {
  parallel_elements(n, [&](u32 i, u32 end) {
    for (; i < end; i += 4) {
      const u32 lanes = min(4, end - i);
      const f4 g = get(grad + i, lanes) * splat(grad_scale), old = get(p + i, lanes);
      const f4 first = splat(beta1) * get(m + i, lanes) + splat(rest1) * g;
      const f4 second = splat(beta2) * get(v + i, lanes) + splat(rest2) * g * g;
      const f4 root = __builtin_elementwise_sqrt(second * splat(correct2));
      put(m + i, first, lanes);
      put(v + i, second, lanes);
      put(p + i, old - splat(lr) * (first * splat(correct1) / (root + splat(eps)) + splat(decay) * old), lanes);
    }
  });
}
