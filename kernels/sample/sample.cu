// Draws one token a row of logits [batch, vocab]: temperature, then top-k, top-p and min-p, then the largest of score + Gumbel noise; a block a row.
// The thresholds of top-k and top-p are found by bisection over the bits of the logits, ordered as integers: exact, without sorting.
// counters, unless null: each row's own, which goes up by one, so that a replayed draw goes on.
// Noise: Philox4x32-10 (Salmon et al., SC 2011) with counter (index / 4, counter) and key seed, as the host makes it. Bytes: the logits once without
// top-k and top-p, from the cache again for each bit with them.
#include "../common/chain.cuh"
#include "../common/types.cuh"

using u32 = unsigned;
using u64 = unsigned long long;

__device__ __forceinline__ u32 randomWord(u64 index, u64 seed, u64 counter) {
  const u64 block = index / 4;
  u32 c[4] = {(u32)block, (u32)(block >> 32), (u32)counter, (u32)(counter >> 32)};
  u32 k0 = (u32)seed, k1 = (u32)(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const u32 high0 = __umulhi(0xd2511f53u, c[0]), low0 = 0xd2511f53u * c[0], high1 = __umulhi(0xcd9e8d57u, c[2]), low1 = 0xcd9e8d57u * c[2];
    const u32 c1 = c[1], c3 = c[3];
    c[0] = high1 ^ c1 ^ k0, c[1] = low1, c[2] = high0 ^ c3 ^ k1, c[3] = low0;
    k0 += 0x9e3779b9u, k1 += 0xbb67ae85u;
  }
  const int which = (int)(index % 4);
  return which == 0 ? c[0] : which == 1 ? c[1] : which == 2 ? c[2] : c[3];
}
// In float64, as on the host: equal scores but for rounding choose the same token.
__device__ __forceinline__ double gumbel(u32 word) { return -log(-log((word + 0.5) / 4294967296.0)); }

// Floats in order as unsigned integers; NaN counts as largest.
__device__ __forceinline__ u32 order(float x) {
  if (x != x) return ~0u;
  const u32 u = __float_as_uint(x);
  return u & 0x80000000u ? ~u : u | 0x80000000u;
}
struct Candidate {
  double score;
  int at;
};
// The larger; the first among equals; NaN is larger than anything.
__device__ __forceinline__ Candidate better(Candidate a, Candidate b) {
  if (b.at < 0) return a;
  if (a.at < 0) return b;
  const bool nanA = a.score != a.score, nanB = b.score != b.score;
  if (nanA || nanB) return nanA && nanB ? (a.at < b.at ? a : b) : nanA ? a : b;
  return b.score > a.score || (b.score == a.score && b.at < a.at) ? b : a;
}
__device__ __forceinline__ Candidate bestOfWarp(Candidate own) {
  for (int step = 16; step > 0; step >>= 1)
    own = better(own, {__shfl_xor_sync(~0u, own.score, step), __shfl_xor_sync(~0u, own.at, step)});
  return own;
}
__device__ Candidate bestOfAll(Candidate own, Candidate* scratch) {
  own = bestOfWarp(own);
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = own;
  __syncthreads();
  Candidate best = scratch[0];
  for (int w = 1; w < blockDim.x / 32; w++) best = better(best, scratch[w]);
  return best;
}

// What a thread's logits at or above a key are worth together. Many are on their way at once: one block has nothing else to wait with.
template <class F> __device__ float worthOf(const float* row, int vocab, u32 least, F worth) {
  constexpr int MANY = 16;
  float own = 0;
  for (int v = threadIdx.x; v < vocab; v += MANY * blockDim.x) {
    float x[MANY];
#pragma unroll
    for (int k = 0; k < MANY; k++) x[k] = v + k * (int)blockDim.x < vocab ? row[v + k * blockDim.x] : 0;
#pragma unroll
    for (int k = 0; k < MANY; k++)
      if (v + k * (int)blockDim.x < vocab && order(x[k]) >= least) own += worth(x[k]);
  }
  return own;
}
// The largest key in [low, high] for which the logits at or above it are worth `wanted`.
template <class F> __device__ u32 bisect(const float* row, int vocab, u32 low, u32 high, float wanted, float* sums, F worth) {
  while (low < high) {
    const u32 mid = low + (high - low) / 2 + ((high - low) & 1);
    if (blockSum(worthOf(row, vocab, mid, worth), sums) >= wanted) low = mid;
    else high = max(low, mid - 1);
  }
  return low;
}

extern "C" __global__ void __launch_bounds__(1024) sample(const float* logits, int* token, float* logprob, u32* counters, i64 vocabSize, i64 topK, i64 seed, i64 counter,
                                                          double temperature, double topP, double minP) {
  __shared__ Candidate champions[32];
  __shared__ float sums[32];
  const int vocab = (int)vocabSize;
  const i64 base = blockIdx.x * vocabSize;
  const float* row = logits + base;
  // Read before the first barrier, written after the last.
  const u64 stream = counters == nullptr ? (u64)counter : counters[blockIdx.x];
  float top = -INFINITY, mass = 0;
  Candidate own{0, -1};
#pragma unroll 4
  for (int v = threadIdx.x; v < vocab; v += blockDim.x) {
    const float x = row[v];
    if (x > top) mass *= expf(top - x), top = x;
    mass += top == -INFINITY ? 0.0f : expf(x - top);
    own = better(own, {(double)x, v});
  }
  const Candidate first = bestOfAll(own, champions);
  const float largest = row[first.at];
  mass = blockSum(mass == 0 ? 0.0f : mass * expf(top - largest), sums);
  int chosen = first.at;
  if (temperature > 0) {
    u32 least = 0;
    const auto probability = [&](float x) { return expf((float)((x - largest) / temperature)); };
    if (topK > 0) least = bisect(row, vocab, 0, order(largest), (float)topK, sums, [](float) { return 1.0f; });
    if (topP < 1) {
      const float wanted = (float)topP * blockSum(worthOf(row, vocab, least, probability), sums);
      least = bisect(row, vocab, least, order(largest), wanted, sums, probability);
    }
    own = {0, -1};
    for (int v = threadIdx.x; v < vocab; v += blockDim.x) {
      const float x = row[v];
      if (order(x) < least || probability(x) < minP) continue;
      own = better(own, {x / temperature + gumbel(randomWord(base + v, seed, stream)), v});
    }
    const Candidate drawn = bestOfAll(own, champions);
    if (drawn.at >= 0) chosen = drawn.at;
  }
  if (threadIdx.x == 0) {
    token[blockIdx.x] = chosen;
    logprob[blockIdx.x] = row[chosen] - largest - logf(mass);
    if (counters != nullptr) counters[blockIdx.x] = (u32)stream + 1;
  }
}

// Without top-k, top-p and min-p: blockIdx.x takes a part of row blockIdx.y, then a warp a row joins the parts in order.
constexpr int PART = 2048;
struct alignas(8) Part {
  double score;
  int at;
  float top, mass, logit;
};
extern "C" __global__ void __launch_bounds__(256) sample_parts(const float* logits, Part* parts, const u32* counters, i64 vocab, i64 seed, i64 counter,
                                                               double temperature) {
  __shared__ Candidate champions[32];
  __shared__ float sums[32];
  const i64 base = blockIdx.y * vocab, from = blockIdx.x * (i64)PART;
  letNext();
  awaitPrevious();
  const u64 stream = counters == nullptr ? (u64)counter : counters[blockIdx.y];
  float own[PART / 256], top = -INFINITY;
  Candidate best{0, -1};
#pragma unroll
  for (int k = 0; k < PART / 256; k++) {
    const i64 v = from + threadIdx.x + 256 * k;
    own[k] = v < vocab ? logits[base + v] : -INFINITY;
    top = fmaxf(top, own[k]);
  }
#pragma unroll
  for (int k = 0; k < PART / 256; k++) {
    const i64 v = from + threadIdx.x + 256 * k;
    if (v < vocab) best = better(best, {own[k] / temperature + gumbel(randomWord(base + v, seed, stream)), (int)v});
  }
  top = blockMax(top, sums);
  float mass = 0;
#pragma unroll
  for (int k = 0; k < PART / 256; k++) mass += own[k] == -INFINITY ? 0.0f : expf(own[k] - top);
  mass = blockSum(mass, sums);
  best = bestOfAll(best, champions);
  if (threadIdx.x == 0) parts[blockIdx.y * (i64)gridDim.x + blockIdx.x] = {best.score, best.at, top, mass, logits[base + best.at]};
}

// The same without noise: the first of the largest logits, which needs no float64. Two halves of a thread's logits are summed as the two threads of
// sample_parts sum them, so that both get the same mass.
constexpr int LARGEST_THREADS = 128, LARGEST_EACH = PART / LARGEST_THREADS;
// Where a logit is NaN or infinite, or all are -infinity.
__device__ __noinline__ void uncommonPart(const float* row, int count, i64 from, float top, Part* part) {
  __shared__ Candidate champions[32];
  __shared__ float sums[32];
  Candidate best{0, -1};
  float mass = 0;
  for (int v = threadIdx.x; v < count; v += blockDim.x) {
    best = better(best, {(double)row[v], (int)from + v});
    mass += row[v] == -INFINITY ? 0.0f : expf(row[v] - top);
  }
  mass = blockSum(mass, sums);
  best = bestOfAll(best, champions);
  if (threadIdx.x == 0) *part = {best.score, best.at, top, mass, (float)best.score};
}
extern "C" __global__ void __launch_bounds__(LARGEST_THREADS) sample_largest_parts(const float* logits, Part* parts, i64 vocab) {
  constexpr int WARPS = LARGEST_THREADS / 32;
  __shared__ float tops[WARPS], masses[2 * WARPS];
  __shared__ u32 firsts[WARPS];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const i64 from = blockIdx.x * (i64)PART;
  const int count = (int)min((i64)PART, vocab - from);
  const float* row = logits + blockIdx.y * vocab + from;
  Part* part = parts + blockIdx.y * (i64)gridDim.x + blockIdx.x;
  letNext();
  awaitPrevious();
  float own[LARGEST_EACH], ownTop = -INFINITY;
#pragma unroll
  for (int k = 0; k < LARGEST_EACH; k++) {
    const int v = threadIdx.x + LARGEST_THREADS * k;
    own[k] = v < count ? row[v] : -INFINITY;
  }
#pragma unroll
  for (int k = 0; k < LARGEST_EACH; k++) ownTop = fmaxf(ownTop, own[k]);
  for (int step = 16; step > 0; step >>= 1) ownTop = fmaxf(ownTop, __shfl_xor_sync(~0u, ownTop, step));
  if (lane == 0) tops[warp] = ownTop;
  __syncthreads();
  float top = tops[0];
#pragma unroll
  for (int w = 1; w < WARPS; w++) top = fmaxf(top, tops[w]);

  float halves[2] = {0, 0};
#pragma unroll
  for (int k = 0; k < LARGEST_EACH; k++) halves[k % 2] += expf(own[k] - top);
  // The lower lanes go on with the one half's sum, the upper with the other's.
  float mass = lane < 16 ? halves[0] : halves[1];
  mass += __shfl_xor_sync(~0u, lane < 16 ? halves[1] : halves[0], 16);
  for (int step = 8; step > 0; step >>= 1) mass += __shfl_xor_sync(~0u, mass, step);
  if (lane % 16 == 0) masses[warp + lane / 16 * WARPS] = mass;
  u32 first = ~0u;
  if (ownTop == top) {
#pragma unroll
    for (int k = LARGEST_EACH - 1; k >= 0; k--)
      if (own[k] == top) first = threadIdx.x + LARGEST_THREADS * k;
    first = __reduce_min_sync(~0u, first);
  }
  if (lane == 0) firsts[warp] = first;
  if (__syncthreads_or(mass != mass)) {
    uncommonPart(row, count, from, top, part);
    return;
  }
  if (threadIdx.x != 0) return;
  mass = 0;
#pragma unroll
  for (int w = 0; w < 2 * WARPS; w++) mass += masses[w];
#pragma unroll
  for (int w = 1; w < WARPS; w++) first = min(first, firsts[w]);
  *part = {(double)top, (int)(from + first), top, mass, top};
}
// A warp a row. The sum is that of a block of 256 threads, whose warps' sums are added in order.
extern "C" __global__ void __launch_bounds__(32) sample_join(const Part* parts, int* token, float* logprob, u32* counters, i64 count) {
  const int lane = threadIdx.x;
  const Part* row = parts + blockIdx.x * count;
  awaitPrevious();
  const Part held = lane < count ? row[lane] : Part{0, -1, -INFINITY, 0, 0};
  float top = held.top;
  Candidate best{held.score, held.at};
  for (i64 k = lane + 32; k < count; k += 32) {
    top = fmaxf(top, row[k].top);
    best = better(best, {row[k].score, row[k].at});
  }
  for (int step = 16; step > 0; step >>= 1) top = fmaxf(top, __shfl_xor_sync(~0u, top, step));
  const auto share = [&](const Part& part) { return part.mass == 0 ? 0.0f : part.mass * expf(part.top - top); };
  float mass = 0;
  for (int w = 0; w < 8 && 32 * w < count; w++) {
    float sum = w == 0 ? share(held) : 0.0f;
    for (i64 k = lane + 32 * w + (w == 0 ? 256 : 0); k < count; k += 256) sum += share(row[k]);
    for (int step = 16; step > 0; step >>= 1) sum += __shfl_xor_sync(~0u, sum, step);
    mass += sum;
  }
  best = bestOfWarp(best);
  if (lane != 0) return;
  token[blockIdx.x] = best.at;
  logprob[blockIdx.x] = row[best.at / PART].logit - top - logf(mass);
  if (counters != nullptr) counters[blockIdx.x]++;
}
