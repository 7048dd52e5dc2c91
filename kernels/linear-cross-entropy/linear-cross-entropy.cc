// linearCrossEntropy: loss[i] = logsumexp_v(hidden[i] . weight[v]) - hidden[i] . weight[target]; a negative target is ignored.
// The backend makes the logits of some rows at a time with gemm; these kernels use them up.
#include "common/math.h"
#include "common/parallel.h"

// logits [rows, vocab], targets int32 [rows] -> loss, log_sums (0: not wanted) [rows]. A target past the vocabulary has logit 0.
EXPORT(cross_entropy)(float* loss, float* log_sums, const float* logits, const i32* targets, u32 rows, u32 vocab) {
  parallel_for(rows, max(1, 2048 / max(1, vocab)), [&](u32 r, u32 end) {
    for (; r < end; r++) {
      const float* row = logits + r * vocab;
      float top = -__builtin_inff();
      for (u32 v = 0; v < vocab; v++) top = row[v] > top || row[v] != row[v] ? row[v] : top;
      double total = 0;
      u32 v = 0;
      for (; v + 4 <= vocab; v += 4) total += (double)sum4(exp(load(row + v) - splat(top)));
      for (; v < vocab; v++) total += (double)exp(splat(row[v] - top))[0];
      const double log_sum = (double)top + log(total);
      const i32 target = targets[r];
      if (log_sums) log_sums[r] = (float)log_sum;
      loss[r] = target < 0 ? 0 : (float)(log_sum - (double)((u32)target < vocab ? row[target] : 0));
    }
  });
}

// Turns logits into their gradients, in place: g (softmax - onehot). g [rows].
EXPORT(cross_entropy_backward)(float* logits, const i32* targets, const float* g, const float* log_sums, u32 rows, u32 vocab) {
  parallel_for(rows, max(1, 2048 / max(1, vocab)), [&](u32 r, u32 end) {
    for (; r < end; r++) {
      float* row = logits + r * vocab;
      const i32 target = targets[r];
      const float scale = target < 0 ? 0 : g[r], log_sum = log_sums[r];
      if (scale == 0) {
        for (u32 v = 0; v < vocab; v++) row[v] = 0;
        continue;
      }
      for (u32 v = 0; v < vocab; v += 4) {
        const u32 lanes = min(4, vocab - v);
        const f4 p = splat(scale) * exp(get(row + v, lanes) - splat(log_sum));
        put(row + v, p, lanes);
      }
      if ((u32)target < vocab) row[target] -= scale;
    }
  });
}
