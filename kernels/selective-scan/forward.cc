// selective-scan / forward - arXiv:2312.00752, Alg. 2:
//   d = softplus?(delta + bias), h[t] = exp(d A) h[t-1] + d B[t] x[t], y[t] = (C[t] . h[t] + D x[t]) silu(z[t])
//
// words: batch, length, dInner, dState, groups, softplus, then address and row stride of x, delta, B, C, z,
// then addresses of A, D, bias, initial, marks (0: absent). y [batch, length, dInner], final [batch, dInner, dState].
// kept: the states every 32 tokens for the backward pass, or 0. groups > 1 need dInner / groups to be a multiple of 16.
// Channels are lanes: their states stay in the first cache through all tokens. A few tokens only: states are lanes.
#include "selective-scan/scan.h"

namespace {
constexpr u32 MOST_STATES = 256;

// Channels that go through a tile together: rows are read and written in runs of as many.
constexpr u32 WIDE = 64, PAIRS = WIDE / 8;

// A state of eight channels and its rate (times log2 e): one cache line.
struct State {
  f4 A2[2], h[2];
};

// What a tile needs of each token: step sizes, their products with x, and the sums of C h that become y.
struct Block {
  f4 step[TILE][PAIRS][2], dx[TILE][PAIRS][2], sum[TILE][PAIRS][2];
  // The largest steps of each channel, and the least of all.
  f4 longest[PAIRS][2], shortest;
};

// One tile of eight channels. within: all exponents are between -126 and 0.
template <bool within>
INLINE void advance(const Scan& s, u32 row, u32 tokens, u32 group, State* states, Block& tile, u32 pair) {
  for (u32 t = 0; t < tokens; t++) {
    const i32 mark = s.mark(row + t);
    if (mark < 0) continue;
    if (mark > 0)
      for (u32 n = 0; n < s.state; n++) states[n].h[0] = states[n].h[1] = f4{};
    const float *B = s.B.at(row + t) + group, *C = s.C.at(row + t) + group;
    const f4 d0 = tile.step[t][pair][0], d1 = tile.step[t][pair][1], x0 = tile.dx[t][pair][0], x1 = tile.dx[t][pair][1];
    f4 y0 = {}, y1 = {};
    for (u32 n = 0; n < s.state; n++) {
      f4* h = states[n].h;
      f4 e0 = d0 * states[n].A2[0], e1 = d1 * states[n].A2[1];
      if (!within) {
        e0 = at_least(at_most(e0, splat(128.0f)), splat(-126.0f));
        e1 = at_least(at_most(e1, splat(128.0f)), splat(-126.0f));
      }
      const f4 b = splat(B[n]), c = splat(C[n]);
      const f4 h0 = madd(exp2_between(e0), h[0], x0 * b), h1 = madd(exp2_between(e1), h[1], x1 * b);
      h[0] = h0;
      h[1] = h1;
      y0 = madd(c, h0, y0);
      y1 = madd(c, h1, y1);
    }
    tile.sum[t][pair][0] = y0;
    tile.sum[t][pair][1] = y1;
  }
}

// Step sizes and products of a tile's tokens, from channel `first` on. What takes several dependent steps is done in two passes over
// a row: a processor sees only so far ahead, and would wait for each chain's end.
template <bool whole>
void begin(const Scan& s, Block& tile, u32 pairs, u32 row, u32 tokens, u32 first) {
  const auto lanes = [&](u32 k) { return whole ? 4 : lanes_from(first + 4 * k, s.inner); };
  tile.shortest = f4{};
  for (u32 p = 0; p < PAIRS; p++) tile.longest[p][0] = tile.longest[p][1] = f4{};
  f4* longest = tile.longest[0];
  for (u32 t = 0; t < tokens; t++) {
    f4 *step = tile.step[t][0], *dx = tile.dx[t][0];
    for (u32 k = 0; k < 2 * pairs; k++) {
      dx[k] = s.raw_step(row + t, first + 4 * k, lanes(k));
      step[k] = s.softplus ? exp_of_minus(dx[k]) : dx[k];
    }
    const float* x = s.x.at(row + t) + first;
    for (u32 k = 0; k < 2 * pairs; k++) {
      if (s.softplus) step[k] = softplus_from(dx[k], step[k]);
      dx[k] = step[k] * get(x + 4 * k, lanes(k));
      longest[k] = at_least(step[k], longest[k]);
      tile.shortest = at_most(step[k], tile.shortest);
    }
  }
}

// y of a tile's tokens, from the sums.
template <bool whole>
void finish(const Scan& s, Block& tile, float* y, u32 pairs, u32 row, u32 tokens, u32 first) {
  const auto lanes = [&](u32 k) { return whole ? 4 : lanes_from(first + 4 * k, s.inner); };
  for (u32 t = 0; t < tokens; t++) {
    f4 *sum = tile.sum[t][0], *decay = tile.step[t][0];
    const float *x = s.x.at(row + t) + first, *z = s.z.at(row + t) + first;
    float* to = y + (row + t) * s.inner + first;
    if (s.mark(row + t) < 0) {
      for (u32 k = 0; k < 2 * pairs; k++) put(to + 4 * k, f4{}, lanes(k));
      continue;
    }
    for (u32 k = 0; k < 2 * pairs; k++) {
      if (s.D) sum[k] = madd(get(s.D + first + 4 * k, lanes(k)), get(x + 4 * k, lanes(k)), sum[k]);
      if (s.z.data) decay[k] = exp_of_minus(get(z + 4 * k, lanes(k)));
    }
    for (u32 k = 0; k < 2 * pairs; k++) {
      const f4 gate = get(z + 4 * k, s.z.data ? lanes(k) : 0);
      put(to + 4 * k, s.z.data ? sum[k] * gate * sigmoid_from(gate, decay[k]) : sum[k], lanes(k));
    }
  }
}

// Up to 64 channels, from `first` on, through all tokens of row b of the batch.
void channels(const Scan& s, float* y, float* final, float* kept, u32 b, u32 first) {
  State states[PAIRS][MOST_STATES];
  Block tile;
  const u32 pairs = min(PAIRS, ceil_div(s.inner - first, 8));
  const bool whole = first + 8 * pairs <= s.inner;
  // Rates are in [least, most] or between 0 and one of them.
  f4 least[PAIRS][2] = {}, most[PAIRS][2] = {};
  const auto each_state = [&](auto body) {
    for (u32 p = 0; p < pairs; p++)
      for (u32 n = 0; n < s.state; n++)
        for (u32 v = 0; v < 2; v++) {
          const u32 channel = first + 8 * p + 4 * v;
          body(p, n, v, channel, lanes_from(channel, s.inner));
        }
  };
  each_state([&](u32 p, u32 n, u32 v, u32 channel, u32 lanes) {
    const f4 A2 = column(s.A, channel, n, s.state, lanes) * splat(LOG2E);
    states[p][n].A2[v] = A2;
    states[p][n].h[v] = s.initial ? column(s.initial + b * s.inner * s.state, channel, n, s.state, lanes) : f4{};
    least[p][v] = at_most(A2, least[p][v]);
    most[p][v] = at_least(A2, most[p][v]);
  });
  for (u32 k = 0; k < s.tiles; k++) {
    const u32 start = k * TILE, tokens = min(TILE, s.length - start), row = b * s.length + start;
    if (kept)
      each_state([&](u32 p, u32 n, u32 v, u32 channel, u32) {
        store(kept + kept_at(s, b, k, channel, n), states[p][n].h[v]);
      });
    if (whole) begin<true>(s, tile, pairs, row, tokens, first);
    else begin<false>(s, tile, pairs, row, tokens, first);
    for (u32 p = 0; p < pairs; p++) {
      const u32 group = s.group(first + 8 * p);
      // False for NaN as well.
      i4 within = tile.shortest >= 0;
      for (u32 v = 0; v < 2; v++) within &= (most[p][v] <= 0) & (tile.longest[p][v] * least[p][v] >= -126);
      if (all(within)) advance<true>(s, row, tokens, group, states[p], tile, p);
      else advance<false>(s, row, tokens, group, states[p], tile, p);
    }
    if (whole) finish<true>(s, tile, y, pairs, row, tokens, first);
    else finish<false>(s, tile, y, pairs, row, tokens, first);
  }
  each_state([&](u32 p, u32 n, u32 v, u32 channel, u32 lanes) {
    put_column(final + b * s.inner * s.state, channel, n, s.state, lanes, states[p][n].h[v]);
  });
}

// One channel's states, n at a time: h = a h + u B, and the sum of C h. They are read from `before` (0: zeros) and written to h.
template <bool whole>
INLINE float channel_step(u32 state, const float* A, float* h, const float* before, const float* B, const float* C, f4 d, f4 u,
                          bool logarithmic) {
  f4 sum = {};
  for (u32 n = 0; n < state; n += 4) {
    const u32 count = whole ? 4 : min(4, state - n);
    f4 a = get(A + n, count);
    if (logarithmic) a = exp2_normal(at_most(a * splat(LOG2E), splat(128.0f)));
    const f4 decay = exp2_normal(at_most(d * a, splat(128.0f)));
    const f4 old = before ? get(before + n, count) : f4{};
    const f4 now = madd(decay, old, u * get(B + n, count));
    put(h + n, now, count);
    sum = madd(get(C + n, count), now, sum);
  }
  return sum4(sum);
}

// A few tokens of four channels: states are lanes, and are read and written where they lie.
template <bool whole>
void tokens(const Scan& s, float* y, float* final, u32 b, u32 first, bool logarithmic) {
  const u32 lanes = whole ? 4 : lanes_from(first, s.inner), group = s.group(first);
  float* states = final + (b * s.inner + first) * s.state;
  const float* before = s.initial ? s.initial + (b * s.inner + first) * s.state : nullptr;
  const auto keep = [&] {
    for (u32 i = 0; i < lanes * s.state; i++) states[i] = before ? before[i] : 0;
    before = states;
  };
  for (u32 row = b * s.length; row < (b + 1) * s.length; row++) {
    const i32 mark = s.mark(row);
    if (mark < 0) {
      put(y + row * s.inner + first, f4{}, lanes);
      if (before != states) keep();
      continue;
    }
    if (mark > 0) before = nullptr;
    const f4 x = get(s.x.at(row) + first, lanes), step = s.step(s.raw_step(row, first, lanes)), dx = step * x;
    const float *B = s.B.at(row) + group, *C = s.C.at(row) + group;
    const f4 rate = step * splat(logarithmic ? -LOG2E : LOG2E);
    f4 out = {};
#pragma clang loop unroll(full)
    for (u32 r = 0; r < 4; r++)
      if (whole || r < lanes)
        out[r] = channel_step<whole>(s.state, s.A + (first + r) * s.state, states + r * s.state,
                                     before ? before + r * s.state : nullptr, B, C, splat(rate[r]), splat(dx[r]), logarithmic);
    before = states;
    if (s.D) out = madd(get(s.D + first, lanes), x, out);
    if (s.z.data) out *= silu(get(s.z.at(row) + first, lanes));
    put(y + row * s.inner + first, out, lanes);
  }
  if (s.length == 0) keep();
}
}  // namespace

// logarithmic: A holds A_log instead, A = -exp(A_log); for a few tokens only.
EXPORT(selective_scan)(float* y, float* final, float* kept, const u32* words, u32 logarithmic) {
  const Scan s = scan_of(words);
  if (logarithmic || (s.length < 4 && kept == nullptr)) {
    const u32 quads = ceil_div(s.inner, 4);
    return parallel_for(s.batch * quads, max(1, 256 / max(1, s.state * s.length)), [&](u32 item, u32 end) {
      for (; item < end; item++) {
        const u32 b = item / quads, first = item % quads * 4;
        if (s.state % 4 == 0 && first + 4 <= s.inner) tokens<true>(s, y, final, b, first, logarithmic != 0);
        else tokens<false>(s, y, final, b, first, logarithmic != 0);
      }
    });
  }
  const u32 items = ceil_div(s.inner, WIDE);
  parallel_for(s.batch * items, 1, [&](u32 item, u32 end) {
    for (; item < end; item++) channels(s, y, final, kept, item / items, item % items * WIDE);
  });
}
