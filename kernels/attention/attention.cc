// attention: y = softmax(scale q k^T + mask) v, grouped-query, with an online softmax (Milakov and Gimelshein, arXiv:1805.02867).
// q, y [batch, queries, heads, dim]; k, v [batch, keys, kvHeads, dim]; causal: query i sees key j iff j <= i + keys - queries;
// segments (0: none): int32 ids, only equal ones that are not negative see each other. A query that sees nothing gives zeros.
// log_sums (0: not wanted) [batch, queries, heads]: log of the sum of the exponentials, for the backward pass.
#include "common/math.h"
#include "common/parallel.h"

namespace {
constexpr u32 BLOCK = 64, WIDEST = 256;

struct Attention {
  u32 batch, queries, keys, heads, kv_heads, dim, causal;
  const float *q, *k, *v;
  const i32 *query_ids, *key_ids;
  float scale;

  INLINE_MEMBER u32 seen(u32 i) const {
    if (!causal) return keys;
    const i32 last = (i32)i + (i32)keys - (i32)queries + 1;
    return last < 0 ? 0 : min(keys, (u32)last);
  }
  INLINE_MEMBER u32 query_at(u32 b, u32 i, u32 h) const { return ((b * queries + i) * heads + h) * dim; }
  INLINE_MEMBER u32 key_at(u32 b, u32 j, u32 h) const { return ((b * keys + j) * kv_heads + h) * dim; }
  INLINE_MEMBER bool masked(u32 b, u32 i, u32 j) const {
    if (!query_ids) return false;
    const i32 id = query_ids[b * queries + i];
    return id < 0 || id != key_ids[b * keys + j];
  }
  INLINE_MEMBER float dot(const float* a, const float* c) const {
    f4 sum = {};
    for (u32 d = 0; d < dim; d += 4) sum = madd(get(a + d, dim - d), get(c + d, dim - d), sum);
    return sum4(sum);
  }
};

Attention attention_of(const u32* w, float scale) {
  return {w[0], w[1], w[2], w[3], w[4], w[5], w[6], (const float*)w[7], (const float*)w[8], (const float*)w[9],
          (const i32*)w[10], (const i32*)w[11], scale};
}

void one_query(const Attention& a, float* y, float* log_sums, u32 b, u32 i, u32 h) {
  const float* q = a.q + a.query_at(b, i, h);
  const u32 kv = h / (a.heads / a.kv_heads), seen = a.seen(i);
  f4 acc[WIDEST / 4];
  for (u32 d = 0; d < a.dim; d += 4) acc[d / 4] = f4{};
  float top = -__builtin_inff(), total = 0;
  for (u32 start = 0; start < seen; start += BLOCK) {
    const u32 count = min(BLOCK, seen - start);
    float scores[BLOCK], block_top = top;
    for (u32 j = 0; j < count; j++) {
      scores[j] = a.masked(b, i, start + j) ? -__builtin_inff() : a.scale * a.dot(q, a.k + a.key_at(b, start + j, kv));
      block_top = scores[j] > block_top || scores[j] != scores[j] ? scores[j] : block_top;
    }
    if (block_top == -__builtin_inff()) continue;
    const float shrink = top == -__builtin_inff() ? 0 : exp(splat(top - block_top))[0];
    top = block_top;
    total *= shrink;
    for (u32 d = 0; d < a.dim; d += 4) acc[d / 4] *= splat(shrink);
    for (u32 j = 0; j < count; j += 4) {
      const u32 lanes = min(4, count - j);
      const f4 weights = exp(get(scores + j, lanes) - splat(top));
      for (u32 r = 0; r < lanes; r++) {
        if (scores[j + r] == -__builtin_inff()) continue;
        const float* v = a.v + a.key_at(b, start + j + r, kv);
        total += weights[r];
        for (u32 d = 0; d < a.dim; d += 4) acc[d / 4] = madd(splat(weights[r]), get(v + d, a.dim - d), acc[d / 4]);
      }
    }
  }
  const bool none = total == 0;
  for (u32 d = 0; d < a.dim; d += 4)
    put(y + a.query_at(b, i, h) + d, none ? f4{} : acc[d / 4] / splat(total), a.dim - d);
  if (log_sums) log_sums[(b * a.queries + i) * a.heads + h] = none ? 0 : top + logf(total);
}
}  // namespace

// words: batch, queries, keys, heads, kvHeads, dim, causal, q, k, v, query segments, key segments.
EXPORT(attention)(float* y, float* log_sums, const u32* words, float scale) {
  const Attention a = attention_of(words, scale);
  parallel_for(a.batch * a.queries * a.heads, max(1, 32768 / max(1, a.keys * a.dim)), [&](u32 item, u32 end) {
    for (; item < end; item++)
      one_query(a, y, log_sums, item / a.heads / a.queries, item / a.heads % a.queries, item % a.heads);
  });
}

// gq as q, gk and gv as k. A head of keys and values is one item, its queries in order: no sums are shared.
EXPORT(attention_backward)(float* gq, float* gk, float* gv, const float* gy, const float* y, const float* log_sums, const u32* words,
                           float scale) {
  const Attention a = attention_of(words, scale);
  const u32 per_kv = a.heads / a.kv_heads;
  parallel_for(a.batch * a.kv_heads, 1, [&](u32 item, u32 end) {
    for (; item < end; item++) {
      const u32 b = item / a.kv_heads, kv = item % a.kv_heads;
      for (u32 j = 0; j < a.keys; j++)
        for (u32 d = 0; d < a.dim; d++) gk[a.key_at(b, j, kv) + d] = gv[a.key_at(b, j, kv) + d] = 0;
      for (u32 h = kv * per_kv; h < (kv + 1) * per_kv; h++)
        for (u32 i = 0; i < a.queries; i++) {
          const u32 at = a.query_at(b, i, h);
          const float log_sum = log_sums[(b * a.queries + i) * a.heads + h], drop = a.dot(gy + at, y + at);
          for (u32 d = 0; d < a.dim; d++) gq[at + d] = 0;
          for (u32 j = 0; j < a.seen(i); j++) {
            if (a.masked(b, i, j)) continue;
            const u32 from = a.key_at(b, j, kv);
            const float p = exp(splat(a.scale * a.dot(a.q + at, a.k + from) - log_sum))[0];
            const f4 g = splat(a.scale * p * (a.dot(gy + at, a.v + from) - drop)), weight = splat(p);
            for (u32 d = 0; d < a.dim; d += 4) {
              const u32 lanes = a.dim - d;
              put(gv + from + d, madd(weight, get(gy + at + d, lanes), get(gv + from + d, lanes)), lanes);
              put(gk + from + d, madd(g, get(a.q + at + d, lanes), get(gk + from + d, lanes)), lanes);
              put(gq + at + d, madd(g, get(a.k + from + d, lanes), get(gq + at + d, lanes)), lanes);
            }
          }
        }
    }
  });
}
