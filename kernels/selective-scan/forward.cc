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

// One tile of eight channels: steps and products have been made, sums are taken.
template <bool bounded>
INLINE void advance(const Scan& s, u32 row, u32 tokens, u32 group, const f4 (*A2)[2], f4 (*h)[2], const f4 (*step)[2],
                    const f4 (*dx)[2], f4 (*y)[2]) {
  for (u32 t = 0; t < tokens; t++) {
    const i32 mark = s.mark(row + t);
    if (mark < 0) continue;
    if (mark > 0)
      for (u32 n = 0; n < s.state; n++) h[n][0] = h[n][1] = f4{};
    const float *B = s.B.at(row + t) + group, *C = s.C.at(row + t) + group;
    const f4 d0 = step[t][0], d1 = step[t][1], x0 = dx[t][0], x1 = dx[t][1];
    f4 y0 = {}, y1 = {};
    for (u32 n = 0; n < s.state; n++) {
      f4 e0 = d0 * A2[n][0], e1 = d1 * A2[n][1];
      if (!bounded) e0 = at_most(e0, splat(128.0f)), e1 = at_most(e1, splat(128.0f));
      const f4 b = splat(B[n]), c = splat(C[n]);
      const f4 h0 = madd(exp2_normal(e0), h[n][0], x0 * b), h1 = madd(exp2_normal(e1), h[n][1], x1 * b);
      h[n][0] = h0;
      h[n][1] = h1;
      y0 = madd(c, h0, y0);
      y1 = madd(c, h1, y1);
    }
    y[t][0] = y0;
    y[t][1] = y1;
  }
}

// Eight channels through all tokens of row b of the batch.
void channels(const Scan& s, float* y, float* final, float* kept, u32 b, u32 first) {
  f4 A2[MOST_STATES][2], h[MOST_STATES][2], step[TILE][2], dx[TILE][2], sums[TILE][2];
  const u32 lanes[2] = {lanes_from(first, s.inner), lanes_from(first + 4, s.inner)};
  bool bounded = s.softplus != 0;
  for (u32 n = 0; n < s.state; n++)
    for (u32 v = 0; v < 2; v++) {
      const u32 channel = first + 4 * v;
      A2[n][v] = column(s.A, channel, n, s.state, lanes[v]) * splat(LOG2E);
      h[n][v] = s.initial ? column(s.initial + b * s.inner * s.state, channel, n, s.state, lanes[v]) : f4{};
      for (u32 r = 0; r < 4; r++) bounded = bounded && A2[n][v][r] <= 0;
    }
  const u32 group = s.group(first);
  for (u32 tile = 0; tile < s.tiles; tile++) {
    const u32 start = tile * TILE, tokens = min(TILE, s.length - start), row = b * s.length + start;
    if (kept)
      for (u32 n = 0; n < s.state; n++)
        for (u32 v = 0; v < 2; v++) store(kept + kept_at(s, b, tile, first + 4 * v, n), h[n][v]);
    for (u32 t = 0; t < tokens; t++)
      for (u32 v = 0; v < 2; v++) {
        const u32 channel = first + 4 * v;
        step[t][v] = s.step(s.raw_step(row + t, channel, lanes[v]));
        dx[t][v] = step[t][v] * get(s.x.at(row + t) + channel, lanes[v]);
      }
    if (bounded) advance<true>(s, row, tokens, group, A2, h, step, dx, sums);
    else advance<false>(s, row, tokens, group, A2, h, step, dx, sums);
    for (u32 t = 0; t < tokens; t++)
      for (u32 v = 0; v < 2; v++) {
        const u32 channel = first + 4 * v;
        f4 out = {};
        if (s.mark(row + t) >= 0) {
          out = sums[t][v];
          if (s.D) out = madd(get(s.D + channel, lanes[v]), get(s.x.at(row + t) + channel, lanes[v]), out);
          if (s.z.data) out *= silu(get(s.z.at(row + t) + channel, lanes[v]));
        }
        put(y + (row + t) * s.inner + channel, out, lanes[v]);
      }
  }
  for (u32 n = 0; n < s.state; n++)
    for (u32 v = 0; v < 2; v++)
      put_column(final + b * s.inner * s.state, first + 4 * v, n, s.state, lanes[v], h[n][v]);
}

// One channel's states, n at a time: h = a h + u B, and the sum of C h. They are read from `before` (0: zeros) and written to h.
template <bool whole>
INLINE float channel_step(u32 state, const float* A, float* h, const float* before, const float* B, const float* C, f4 d, f4 u,
                          bool logarithmic) {
  f4 sum = {};
  for (u32 n = 0; n < state; n += 4) {
    const u32 count = whole ? 4 : min(4, state - n);
    f4 a = get(A + n, count);
    if (logarithmic) a = exp(a);
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
  parallel_for(s.batch * s.blocks, 1, [&](u32 item, u32 end) {
    for (; item < end; item++) {
      const u32 b = item / s.blocks, first = item % s.blocks * CHANNELS;
      channels(s, y, final, kept, b, first);
      if (first + 8 < s.inner) channels(s, y, final, kept, b, first + 8);
    }
  });
}
