// What the directions of the mixture of experts share: the arguments, and choices grouped by expert.
#pragma once
#include "common/math.h"
#include "common/parallel.h"

extern "C" void gemm(const float* a, u32 a_row, u32 a_column, const void* b, u32 b_row, u32 b_column, u32 b_format, float* c,
                     u32 ldc, u32 m, u32 n, u32 k, u32 accumulate, const float* bias);

namespace {
enum Activation : u32 { RELU, SILU, GELU };

struct Moe {
  u32 tokens, width, hidden, experts, top_k, activation, pairs;
  const float* x;
  const i32* indices;
  const float *weights, *gate, *up, *down;
  u32 *start, *order;
  float* rows;
};

// words: tokens, width, hidden, experts, topK, activation, x, indices, weights, gate (0: none), up, down, order, rows.
INLINE Moe moe_of(const u32* w) {
  u32* order = (u32*)w[12];
  return {w[0], w[1], w[2], w[3], w[4], w[5], w[0] * w[4], (const float*)w[6], (const i32*)w[7], (const float*)w[8],
          (const float*)w[9], (const float*)w[10], (const float*)w[11], order, order + w[3] + 1, (float*)w[13]};
}

// Pairs of token and choice by expert, in order of the tokens: expert e has those from start[e] to start[e + 1].
INLINE void group(const Moe& s) {
  for (u32 e = 0; e <= s.experts; e++) s.start[e] = 0;
  for (u32 p = 0; p < s.pairs; p++)
    if ((u32)s.indices[p] < s.experts) s.start[s.indices[p]]++;
  for (u32 e = 0, n = 0; e <= s.experts; e++) {
    n += s.start[e];
    s.start[e] = n;
  }
  for (u32 p = s.pairs; p-- > 0;)
    if ((u32)s.indices[p] < s.experts) s.order[--s.start[s.indices[p]]] = p;
}
}  // namespace
