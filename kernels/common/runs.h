// Walks over a broadcast result in runs of its innermost axis.
#pragma once
#include "parallel.h"

// `spec` holds `rank` axis lengths, outermost first, then for each of K operands its `rank` steps (0 where it is broadcast; along the
// innermost axis 0 or 1). body(to, n, from) gets n elements of the result from `to` on, and where they begin in the operands.
template <u32 K, class F>
INLINE void for_runs(u32 rank, const i32* spec, const F& body) {
  constexpr u32 PIECE = 2048;
  const u32 inner = rank == 0 ? 1 : (u32)spec[rank - 1];
  const u32 outer_axes = rank == 0 ? 0 : rank - 1;
  u32 rows = 1;
  for (u32 d = 0; d < outer_axes; d++) rows *= (u32)spec[d];
  const u32 pieces = ceil_div(inner, PIECE);
  parallel_for(rows * pieces, max(1, 4 * PIECE / max(1, min(inner, PIECE))), [&](u32 begin, u32 end) {
    for (u32 item = begin; item < end; item++) {
      u32 row = item / pieces;
      const u32 at = (item - row * pieces) * PIECE;
      const u32 to = row * inner + at;
      u32 from[K];
      for (u32 k = 0; k < K; k++) from[k] = rank == 0 ? 0 : at * (u32)spec[(k + 2) * rank - 1];
      for (u32 d = outer_axes; d-- > 0;) {
        const u32 next = row / (u32)spec[d], index = row - next * (u32)spec[d];
        for (u32 k = 0; k < K; k++) from[k] += index * (u32)spec[(k + 1) * rank + d];
        row = next;
      }
      body(to, min(PIECE, inner - at), from);
    }
  });
}

// y[i] = f(a[i], b[i]) for i < n; an operand that does not move is its first element throughout.
template <class Y, class T, class F>
INLINE void run_pairs(Y* y, const T* a, bool a_moves, const T* b, bool b_moves, u32 n, F f) {
  const u32 whole = n & ~3u, rest = n & 3;
  T same_a[4] = {*a, *a, *a, *a}, same_b[4] = {*b, *b, *b, *b};
  const T *p = a_moves ? a : same_a, *q = b_moves ? b : same_b;
  const u32 p_step = a_moves ? 4 : 0, q_step = b_moves ? 4 : 0;
  for (u32 i = 0; i < whole; i += 4, p += p_step, q += q_step) store(y + i, f(load(p), load(q)));
  if (rest > 0) store_part(y + whole, f(load_part(p, rest), load_part(q, rest)), rest);
}

template <class Y, class T, class F>
INLINE void broadcast_pairs(Y* y, const T* a, const T* b, u32 rank, const i32* spec, F f) {
  const bool a_moves = rank > 0 && spec[2 * rank - 1] != 0, b_moves = rank > 0 && spec[3 * rank - 1] != 0;
  for_runs<2>(rank, spec, [&](u32 to, u32 n, const u32* from) {
    run_pairs(y + to, a + from[0], a_moves, b + from[1], b_moves, n, f);
  });
}
