// Grouped-query attention with an online softmax (arXiv:1805.02867, arXiv:2205.14135), forward and backward, in tiles of 64 rows by 64 keys.
// A row is a query and one of the heads that share a key-value head: row = i group + g, so that keys are read once for all of them.
// Products run in float32 over slices of 64 elements of headDim in shared memory; the scores exist for a tile only. No atomics: same bits every time.
// With few rows (decoding) the keys are split among blocks, whose sums `attention_combine` joins.
#include "../common/types.cuh"

constexpr int TILE = 64, PAD = TILE + 4, THREADS = 256;
#define INF __int_as_float(0x7f800000)
#define NOTHING (-INF)

struct Attention {
  i64 batch, queries, keys, heads, kvHeads, headDim, causal, splits;
  const int *querySegments, *keySegments;
  double scale;
};

// Where row r of a key-value head's rows lies, in elements.
struct Rows {
  i64 base, perQuery, headDim, group;
  __device__ i64 at(i64 r) const { return base + r / group * perQuery + r % group * headDim; }
};
__device__ Rows queryRows(const Attention& p, i64 b, i64 kv) {
  const i64 group = p.heads / p.kvHeads;
  return {(b * p.queries * p.heads + kv * group) * p.headDim, p.heads * p.headDim, p.headDim, group};
}
__device__ Rows keyRows(const Attention& p, i64 b, i64 kv) {
  return {(b * p.keys * p.kvHeads + kv) * p.headDim, p.kvHeads * p.headDim, p.headDim, 1};
}

__device__ bool sees(const Attention& p, i64 b, i64 i, i64 j) {
  if (i >= p.queries || j >= p.keys || (p.causal && j > i + p.keys - p.queries)) return false;
  if (!p.querySegments) return true;
  const int id = p.querySegments[b * p.queries + i];
  return id >= 0 && id == p.keySegments[b * p.keys + j];
}
// One past the last key that query i sees.
__device__ i64 keysSeenBy(const Attention& p, i64 i) { return p.causal ? min(p.keys, i + p.keys - p.queries + 1) : p.keys; }

// acc[m][n] = sum over d of a[aRow + 4 ty + m][d] b[bRow + 4 tx + n][d]; rows from aEnd and bEnd on are zeros.
template <class T> __device__ void dots(const T* a, Rows aRows, i64 aRow, i64 aEnd, const T* b, Rows bRows, i64 bRow, i64 bEnd, i64 headDim,
                                        float (&acc)[4][4], float* sa, float* sb) {
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  for (int m = 0; m < 4; m++)
    for (int n = 0; n < 4; n++) acc[m][n] = 0;
  for (i64 d0 = 0; d0 < headDim; d0 += TILE) {
    __syncthreads();
    for (int t = threadIdx.x; t < TILE * TILE; t += THREADS) {
      const int r = t / TILE, d = t % TILE;
      const bool inside = d0 + d < headDim;
      sa[d * PAD + r] = inside && aRow + r < aEnd ? widen(a[aRows.at(aRow + r) + d0 + d]) : 0.0f;
      sb[d * PAD + r] = inside && bRow + r < bEnd ? widen(b[bRows.at(bRow + r) + d0 + d]) : 0.0f;
    }
    __syncthreads();
    const int depth = (int)min((i64)TILE, headDim - d0);
    for (int d = 0; d < depth; d++) {
      const float4 x = *(const float4*)(sa + d * PAD + 4 * ty), y = *(const float4*)(sb + d * PAD + 4 * tx);
      const float xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
      for (int m = 0; m < 4; m++)
#pragma unroll
        for (int n = 0; n < 4; n++) acc[m][n] += xs[m] * ys[n];
    }
  }
}

// out[c][m][n] += sum over j of weights[j][4 ty + m] v[vRow + j][64 c + 4 tx + n]; `weights` [64, PAD] is shared memory just written.
template <int C, class T> __device__ void accumulate(const float* weights, const T* v, Rows vRows, i64 vRow, i64 vEnd, i64 headDim, float (&out)[C][4][4],
                                                     float* sv) {
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
  for (int c = 0; c < C; c++) {
    __syncthreads();
    for (int t = threadIdx.x; t < TILE * TILE; t += THREADS) {
      const int j = t / TILE, d = c * TILE + t % TILE;
      sv[j * PAD + t % TILE] = d < headDim && vRow + j < vEnd ? widen(v[vRows.at(vRow + j) + d]) : 0.0f;
    }
    __syncthreads();
    for (int j = 0; j < TILE; j++) {
      const float4 x = *(const float4*)(weights + j * PAD + 4 * ty), y = *(const float4*)(sv + j * PAD + 4 * tx);
      const float xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
      for (int m = 0; m < 4; m++)
#pragma unroll
        for (int n = 0; n < 4; n++) out[c][m][n] += xs[m] * ys[n];
    }
  }
}

// Over the 16 threads that hold a row.
__device__ float rowMax(float x) {
  for (int step = 8; step > 0; step >>= 1) x = fmaxf(x, __shfl_xor_sync(~0u, x, step));
  return x;
}
__device__ float rowSum(float x) {
  for (int step = 8; step > 0; step >>= 1) x += __shfl_xor_sync(~0u, x, step);
  return x;
}

// Grid: tiles of rows x splits, kvHeads, batch. One split: y and logSums [batch, kvHeads, rows] (+infinity for a row that sees nothing).
// More: parts [splits, batch, kvHeads, rows, headDim + 2], a row's sum, its largest score and the sum of its weights.
template <class T, int C> __device__ void forward(const T* q, const T* k, const T* v, T* y, float* logSums, float* parts, const Attention& p) {
  extern __shared__ float shared[];
  float *sa = shared, *sb = sa + TILE * PAD, *weights = sb + TILE * PAD;
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  const i64 split = blockIdx.x % p.splits, row0 = blockIdx.x / p.splits * TILE, kv = blockIdx.y, b = blockIdx.z;
  const i64 group = p.heads / p.kvHeads, rows = p.queries * group;
  const Rows at = queryRows(p, b, kv), from = keyRows(p, b, kv);
  const i64 seen = keysSeenBy(p, min(p.queries - 1, (row0 + TILE - 1) / group)), tiles = (seen + TILE - 1) / TILE;
  const i64 begin = tiles * split / p.splits * TILE, end = min(seen, tiles * (split + 1) / p.splits * TILE);
  float top[4], total[4], out[C][4][4] = {}, s[4][4];
  for (int m = 0; m < 4; m++) top[m] = NOTHING, total[m] = 0;
  for (i64 j0 = begin; j0 < end; j0 += TILE) {
    dots(q, at, row0, rows, k, from, j0, p.keys, p.headDim, s, sa, sb);
#pragma unroll
    for (int m = 0; m < 4; m++) {
      const i64 i = (row0 + 4 * ty + m) / group;
      float best = top[m];
      for (int n = 0; n < 4; n++) {
        s[m][n] = sees(p, b, i, j0 + 4 * tx + n) ? s[m][n] * (float)p.scale : NOTHING;
        best = fmaxf(best, s[m][n]);
      }
      best = rowMax(best);
      const float shrink = best == NOTHING ? 1.0f : expf(top[m] - best);
      float sum = 0;
      for (int n = 0; n < 4; n++) {
        const float w = best == NOTHING ? 0.0f : expf(s[m][n] - best);
        weights[(4 * tx + n) * PAD + 4 * ty + m] = w;
        sum += w;
      }
      top[m] = best;
      total[m] = total[m] * shrink + rowSum(sum);
#pragma unroll
      for (int c = 0; c < C; c++)
        for (int n = 0; n < 4; n++) out[c][m][n] *= shrink;
    }
    accumulate<C>(weights, v, from, j0, p.keys, p.headDim, out, sb);
  }
#pragma unroll
  for (int m = 0; m < 4; m++) {
    const i64 r = row0 + 4 * ty + m;
    if (r >= rows) continue;
    const i64 flat = (b * p.kvHeads + kv) * rows + r;
    float* part = parts + (split * p.batch * p.kvHeads * rows + flat) * (p.headDim + 2);
#pragma unroll
    for (int c = 0; c < C; c++)
      for (int n = 0; n < 4; n++) {
        const i64 d = c * TILE + 4 * tx + n;
        if (d >= p.headDim) continue;
        if (p.splits > 1) part[d] = out[c][m][n];
        else y[at.at(r) + d] = narrow<T>(total[m] > 0 ? out[c][m][n] / total[m] : 0.0f);
      }
    if (tx == 0 && p.splits > 1) part[p.headDim] = top[m], part[p.headDim + 1] = total[m];
    if (tx == 0 && p.splits == 1) logSums[flat] = total[m] > 0 ? top[m] + logf(total[m]) : INF;
  }
}

// A block a row: the splits' sums joined. Grid: rows, kvHeads, batch.
template <class T> __device__ void combine(const float* parts, T* y, float* logSums, const Attention& p) {
  const i64 r = blockIdx.x, kv = blockIdx.y, b = blockIdx.z, rows = p.queries * (p.heads / p.kvHeads);
  const i64 flat = (b * p.kvHeads + kv) * rows + r, step = p.batch * p.kvHeads * rows * (p.headDim + 2);
  const float* own = parts + flat * (p.headDim + 2);
  float top = NOTHING, total = 0;
  for (i64 s = 0; s < p.splits; s++) top = fmaxf(top, own[s * step + p.headDim]);
  for (i64 s = 0; s < p.splits; s++) {
    const float best = own[s * step + p.headDim];
    if (best != NOTHING) total += own[s * step + p.headDim + 1] * expf(best - top);
  }
  const Rows at = queryRows(p, b, kv);
  for (i64 d = threadIdx.x; d < p.headDim; d += blockDim.x) {
    float sum = 0;
    for (i64 s = 0; s < p.splits; s++) {
      const float best = own[s * step + p.headDim];
      if (best != NOTHING) sum += own[s * step + d] * expf(best - top);
    }
    y[at.at(r) + d] = narrow<T>(total > 0 ? sum / total : 0.0f);
  }
  if (threadIdx.x == 0) logSums[flat] = total > 0 ? top + logf(total) : INF;
}

// sums[row] = gy . y, a warp a row. Grid: rows / 8, kvHeads, batch.
template <class T> __device__ void gradientDots(const T* gy, const T* y, float* sums, const Attention& p) {
  const i64 rows = p.queries * (p.heads / p.kvHeads), r = blockIdx.x * 8 + threadIdx.x / 32, kv = blockIdx.y, b = blockIdx.z;
  if (r >= rows) return;
  const i64 at = queryRows(p, b, kv).at(r);
  float sum = 0;
  for (i64 d = threadIdx.x % 32; d < p.headDim; d += 32) sum += widen(gy[at + d]) * widen(y[at + d]);
  for (int step = 16; step > 0; step >>= 1) sum += __shfl_xor_sync(~0u, sum, step);
  if (threadIdx.x % 32 == 0) sums[(b * p.kvHeads + kv) * rows + r] = sum;
}

// gq = scale sum over j of w (gy . v - sums) k. Grid: tiles of rows, kvHeads, batch.
template <class T, int C> __device__ void backwardQueries(const T* q, const T* k, const T* v, const T* gy, const float* logSums, const float* sums, T* gq,
                                                          const Attention& p) {
  extern __shared__ float shared[];
  float *sa = shared, *sb = sa + TILE * PAD, *weights = sb + TILE * PAD;
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  const i64 row0 = blockIdx.x * (i64)TILE, kv = blockIdx.y, b = blockIdx.z, group = p.heads / p.kvHeads, rows = p.queries * group;
  const Rows at = queryRows(p, b, kv), from = keyRows(p, b, kv);
  const i64 seen = keysSeenBy(p, min(p.queries - 1, (row0 + TILE - 1) / group)), first = (b * p.kvHeads + kv) * rows;
  float out[C][4][4] = {}, s[4][4], g[4][4];
  for (i64 j0 = 0; j0 < seen; j0 += TILE) {
    dots(q, at, row0, rows, k, from, j0, p.keys, p.headDim, s, sa, sb);
    dots(gy, at, row0, rows, v, from, j0, p.keys, p.headDim, g, sa, sb);
#pragma unroll
    for (int m = 0; m < 4; m++) {
      const i64 r = row0 + 4 * ty + m;
      for (int n = 0; n < 4; n++) {
        float w = 0;
        if (r < rows && sees(p, b, r / group, j0 + 4 * tx + n))
          w = expf(s[m][n] * (float)p.scale - logSums[first + r]) * (g[m][n] - sums[first + r]) * (float)p.scale;
        weights[(4 * tx + n) * PAD + 4 * ty + m] = w;
      }
    }
    accumulate<C>(weights, k, from, j0, p.keys, p.headDim, out, sb);
  }
#pragma unroll
  for (int m = 0; m < 4; m++) {
    const i64 r = row0 + 4 * ty + m;
    if (r >= rows) continue;
#pragma unroll
    for (int c = 0; c < C; c++)
      for (int n = 0; n < 4; n++)
        if (c * TILE + 4 * tx + n < p.headDim) gq[at.at(r) + c * TILE + 4 * tx + n] = narrow<T>(out[c][m][n]);
  }
}

// gv = sum over rows of w gy; gk = scale sum of w (gy . v - sums) q. Grid: tiles of keys, kvHeads, batch.
template <class T, int C> __device__ void backwardKeys(const T* q, const T* k, const T* v, const T* gy, const float* logSums, const float* sums, T* gk, T* gv,
                                                       const Attention& p) {
  extern __shared__ float shared[];
  float *sa = shared, *sb = sa + TILE * PAD, *weights = sb + TILE * PAD;
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  const i64 j0 = blockIdx.x * (i64)TILE, kv = blockIdx.y, b = blockIdx.z, group = p.heads / p.kvHeads, rows = p.queries * group;
  const Rows at = queryRows(p, b, kv), from = keyRows(p, b, kv);
  // The first query that sees a key of this tile.
  const i64 firstQuery = p.causal ? max((i64)0, j0 - (p.keys - p.queries)) : 0, first = (b * p.kvHeads + kv) * rows;
  float outK[C][4][4] = {}, outV[C][4][4] = {}, s[4][4], g[4][4];
  for (i64 r0 = firstQuery * group / TILE * TILE; r0 < rows; r0 += TILE) {
    dots(k, from, j0, p.keys, q, at, r0, rows, p.headDim, s, sa, sb);
    dots(v, from, j0, p.keys, gy, at, r0, rows, p.headDim, g, sa, sb);
#pragma unroll
    for (int n = 0; n < 4; n++) {
      const i64 r = r0 + 4 * tx + n;
      for (int m = 0; m < 4; m++) {
        const bool seen = r < rows && sees(p, b, r / group, j0 + 4 * ty + m);
        const float w = seen ? expf(s[m][n] * (float)p.scale - logSums[first + r]) : 0.0f;
        weights[(4 * tx + n) * PAD + 4 * ty + m] = w;
        g[m][n] = seen ? w * (g[m][n] - sums[first + r]) * (float)p.scale : 0.0f;
      }
    }
    accumulate<C>(weights, gy, at, r0, rows, p.headDim, outV, sb);
    __syncthreads();
#pragma unroll
    for (int n = 0; n < 4; n++)
      for (int m = 0; m < 4; m++) weights[(4 * tx + n) * PAD + 4 * ty + m] = g[m][n];
    accumulate<C>(weights, q, at, r0, rows, p.headDim, outK, sb);
  }
#pragma unroll
  for (int m = 0; m < 4; m++) {
    const i64 j = j0 + 4 * ty + m;
    if (j >= p.keys) continue;
#pragma unroll
    for (int c = 0; c < C; c++)
      for (int n = 0; n < 4; n++) {
        const i64 d = c * TILE + 4 * tx + n;
        if (d >= p.headDim) continue;
        gk[from.at(j) + d] = narrow<T>(outK[c][m][n]);
        gv[from.at(j) + d] = narrow<T>(outV[c][m][n]);
      }
  }
}

#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS)
#define SLICES(name, T, C)                                                                                                                          \
  KERNEL attention_forward_##name##_##C(const T* q, const T* k, const T* v, T* y, float* logSums, float* parts, Attention p) {                     \
    forward<T, C>(q, k, v, y, logSums, parts, p);                                                                                                   \
  }                                                                                                                                                 \
  KERNEL attention_queries_##name##_##C(const T* q, const T* k, const T* v, const T* gy, const float* logSums, const float* sums, T* gq,           \
                                        Attention p) {                                                                                              \
    backwardQueries<T, C>(q, k, v, gy, logSums, sums, gq, p);                                                                                       \
  }                                                                                                                                                 \
  KERNEL attention_keys_##name##_##C(const T* q, const T* k, const T* v, const T* gy, const float* logSums, const float* sums, T* gk, T* gv,       \
                                     Attention p) {                                                                                                 \
    backwardKeys<T, C>(q, k, v, gy, logSums, sums, gk, gv, p);                                                                                      \
  }
#define ATTENTION(name, T)                                                                                                                          \
  SLICES(name, T, 1)                                                                                                                                \
  SLICES(name, T, 2)                                                                                                                                \
  SLICES(name, T, 4)                                                                                                                                \
  KERNEL attention_combine_##name(const float* parts, T* y, float* logSums, Attention p) { combine<T>(parts, y, logSums, p); }                      \
  KERNEL attention_dots_##name(const T* gy, const T* y, float* sums, Attention p) { gradientDots<T>(gy, y, sums, p); }
ATTENTION(float32, float)
ATTENTION(bf16, bf16)
ATTENTION(f16, f16)
