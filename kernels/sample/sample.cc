// sample: one token per row by the Gumbel trick; see SampleDescriptor in packages/backend/src/fused.ts. All in float64.
// logits [batch, vocab] -> token int32 [batch], logprob float32 [batch]. scratch: float64 [2, vocab].
// words: batch, vocab, topK, seed (low, high), counter (low, high). counters, unless null: each row's own instead, which goes up by one. Top-k and top-p take the largest from a heap: only as many as stay.
#include "common/math.h"
#include "common/parallel.h"

namespace {
// Philox4x32-10 (Salmon et al., SC 2011): one block of four words.
void philox(u32 block, u32 block_high, u32 stream, u32 stream_high, u32 k0, u32 k1, u32* out) {
  u32 c0 = block, c1 = block_high, c2 = stream, c3 = stream_high;
  for (u32 round = 0; round < 10; round++) {
    const u64 p0 = (u64)0xd2511f53u * c0, p1 = (u64)0xcd9e8d57u * c2;
    c0 = (u32)(p1 >> 32) ^ c1 ^ k0;
    c1 = (u32)p1;
    c2 = (u32)(p0 >> 32) ^ c3 ^ k1;
    c3 = (u32)p0;
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

u32 arg_max(const double* x, u32 n) {
  u32 best = 0;
  for (u32 v = 0; v < n; v++) {
    if (x[v] != x[v]) return v;
    if (x[v] > x[best]) best = v;
  }
  return best;
}

void sink(double* heap, u32 at, u32 n) {
  const double value = heap[at];
  for (;;) {
    u32 child = 2 * at + 1;
    if (child >= n) break;
    if (child + 1 < n && heap[child + 1] > heap[child]) child++;
    if (!(heap[child] > value)) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = value;
}

double pop(double* heap, u32& n) {
  const double top = heap[0];
  heap[0] = heap[--n];
  if (n > 0) sink(heap, 0, n);
  return top;
}

// The lowest score that top-k, then top-p leave; what equals it stays too.
double least_kept(const double* scores, double* heap, u32 vocab, double top, u32 top_k, double top_p) {
  const auto fill = [&] {
    for (u32 v = 0; v < vocab; v++) heap[v] = scores[v];
    for (u32 i = vocab / 2; i-- > 0;) sink(heap, i, vocab);
  };
  u32 n = vocab;
  double floor = -__builtin_inf();
  fill();
  if (top_k > 0 && top_k < vocab)
    for (u32 i = 0; i < top_k; i++) floor = pop(heap, n);
  if (top_p >= 1) return floor;
  double total = 0;
  for (u32 v = 0; v < vocab; v++)
    if (scores[v] >= floor) total += exp(scores[v] - top);
  fill();
  n = vocab;
  for (double mass = 0; n > 0;) {
    const double score = pop(heap, n);
    if (score < floor) break;
    mass += exp(score - top);
    if (mass >= top_p * total) return score;
  }
  return floor;
}

u32 draw(double* scores, double* heap, u32 row, const u32* w, u32 counter, u32 counter_high, double top_p, double min_p) {
  const u32 vocab = w[1], top_k = w[2];
  const double top = scores[arg_max(scores, vocab)];
  const double floor = top_k > 0 || top_p < 1 ? least_kept(scores, heap, vocab, top, top_k, top_p) : -__builtin_inf();
  u32 words[4];
  u64 have = ~(u64)0;
  u32 best = 0;
  double best_score = -__builtin_inf();
  for (u32 v = 0; v < vocab; v++) {
    const double score = scores[v];
    if (score != score) return v;
    if (score < floor || (min_p > 0 && exp(score - top) < min_p)) continue;
    const u64 index = (u64)row * vocab + v, block = index / 4;
    if (block != have) philox((u32)block, (u32)(block >> 32), counter, counter_high, w[3], w[4], words);
    have = block;
    const double noisy = score - log(-log(((double)words[index % 4] + 0.5) / 4294967296.0));
    if (noisy > best_score) best = v, best_score = noisy;
  }
  return best;
}
}  // namespace

EXPORT(sample)(i32* token, float* logprob, u32* counters, const float* logits, double* scratch, const u32* words, double temperature,
               double top_p, double min_p) {
  const u32 batch = words[0], vocab = words[1];
  double *scores = scratch, *heap = scratch + vocab;
  for (u32 r = 0; r < batch; r++) {
    const float* row = logits + r * vocab;
    for (u32 v = 0; v < vocab; v++) scores[v] = temperature == 0 ? (double)row[v] : (double)row[v] / temperature;
    const u32 counter = counters == nullptr ? words[5] : counters[r], counter_high = counters == nullptr ? words[6] : 0;
    const u32 chosen = temperature == 0 ? arg_max(scores, vocab) : draw(scores, heap, r, words, counter, counter_high, top_p, min_p);
    if (counters != nullptr) counters[r]++;
    double top = -__builtin_inf(), total = 0;
    for (u32 v = 0; v < vocab; v++) top = (double)row[v] > top ? (double)row[v] : top;
    u32 v = 0;
    for (; v + 4 <= vocab; v += 4) total += (double)sum4(exp(load(row + v) - splat((float)top)));
    for (; v < vocab; v++) total += exp((double)row[v] - top);
    token[r] = (i32)chosen;
    logprob[r] = (float)((double)row[chosen] - (top + log(total)));
  }
}
