// selective-scan / forward - arXiv:2312.00752, Alg. 2:
//   d = softplus?(delta + bias), h[t] = exp(d A) h[t-1] + d B[t] x[t], y[t] = (C[t] . h[t] + D x[t]) silu(z[t])
//
// words: batch, length, dInner, dState, groups, softplus, then address and row stride of x, delta, B, C, z,
// then addresses of A, D, bias, initial, marks (0: absent). y [batch, length, dInner], final [batch, dInner, dState].
// kept: the states every 32 tokens for the backward pass, or 0. groups > 1 need dInner / groups to be a multiple of 16.
// Channels are lanes: all of a row go through eight tokens together, so that memory is read and written row by row, and eight at a time
// through those tokens, their states in the first cache. A few tokens only: states are lanes.
#include "selective-scan/scan.h"

namespace {
// Tokens that all channels go through before the next, and channels of a row that are read and written at a time.
constexpr u32 STEPS = 8, STRIDE = STEPS + 1, RUN = 64;
// Of the stack of 512 KiB; it stays in the second cache.
constexpr u32 MOST_STATES = 256;
constexpr u32 MOST_BYTES = 416 * 1024;
static_assert(TILE % STEPS == 0);

// A state of eight channels and its rate (times log2 e): one cache line.
struct State {
  f4 A2[2], h[2];
};

// What eight channels need of a token: step sizes, and their products with x, which give way to the sums of C h. Then `step` is scratch.
struct Token {
  f4 step[2], sum[2];
};

constexpr u32 pair_bytes(u32 state) { return state * (u32)sizeof(State) + STRIDE * (u32)sizeof(Token); }

// Some tokens of eight channels. within: all exponents are between -126 and 0.
template <bool within>
INLINE void advance(const Scan& s, u32 row, u32 tokens, u32 group, State* states, Token* token) {
  for (u32 t = 0; t < tokens; t++, token++) {
    const i32 mark = s.mark(row + t);
    if (mark < 0) continue;
    if (mark > 0)
      for (u32 n = 0; n < s.state; n++) states[n].h[0] = states[n].h[1] = f4{};
    const float *B = s.B.at(row + t) + group, *C = s.C.at(row + t) + group;
    const f4 d0 = token->step[0], d1 = token->step[1], x0 = token->sum[0], x1 = token->sum[1];
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
    token->sum[0] = y0;
    token->sum[1] = y1;
  }
}

// body(first pair, pairs) for runs of a row's channels. What takes several dependent steps is done in two passes over a run: a processor
// sees only so far ahead, and would wait for each chain's end.
template <class F>
INLINE void each_run(u32 pairs, const F& body) {
  for (u32 p = 0; p < pairs; p += RUN / 8) body(p, min(RUN / 8, pairs - p));
}

// Step sizes and products of a row, from channel `first` on.
template <bool whole>
void begin(const Scan& s, Token* tokens, u32 pairs, u32 row, u32 first) {
  each_run(pairs, [&](u32 from, u32 count) {
    const u32 channel = first + 8 * from;
    const auto lanes = [&](u32 p, u32 v) { return whole ? 4 : lanes_from(channel + 8 * p + 4 * v, s.inner); };
    const float* x = s.x.at(row) + channel;
    Token* token = tokens + from * STRIDE;
    for (u32 p = 0; p < count; p++, token += STRIDE)
      ALL_OF for (u32 v = 0; v < 2; v++) {
        const f4 raw = s.raw_step(row, channel + 8 * p + 4 * v, lanes(p, v));
        token->sum[v] = raw;
        token->step[v] = s.softplus ? exp_of_minus(raw) : raw;
      }
    token = tokens + from * STRIDE;
    for (u32 p = 0; p < count; p++, token += STRIDE)
      ALL_OF for (u32 v = 0; v < 2; v++) {
        const f4 step = s.softplus ? softplus_from(token->sum[v], token->step[v]) : token->step[v];
        token->step[v] = step;
        token->sum[v] = step * get(x + 8 * p + 4 * v, lanes(p, v));
      }
  });
}

// y of a row, from the sums.
template <bool whole>
void finish(const Scan& s, Token* tokens, float* y, u32 pairs, u32 row, u32 first) {
  const bool masked = s.mark(row) < 0;
  each_run(pairs, [&](u32 from, u32 count) {
    const u32 channel = first + 8 * from;
    const auto lanes = [&](u32 p, u32 v) { return whole ? 4 : lanes_from(channel + 8 * p + 4 * v, s.inner); };
    const float *x = s.x.at(row) + channel, *z = s.z.at(row) + channel;
    float* to = y + row * s.inner + channel;
    Token* token = tokens + from * STRIDE;
    for (u32 p = 0; p < count; p++, token += STRIDE)
      ALL_OF for (u32 v = 0; v < 2; v++) {
        const u32 k = 8 * p + 4 * v;
        if (masked) token->sum[v] = f4{};
        else if (s.D) token->sum[v] = madd(get(s.D + channel + k, lanes(p, v)), get(x + k, lanes(p, v)), token->sum[v]);
        if (s.z.data) token->step[v] = exp_of_minus(get(z + k, lanes(p, v)));
      }
    token = tokens + from * STRIDE;
    for (u32 p = 0; p < count; p++, token += STRIDE)
      ALL_OF for (u32 v = 0; v < 2; v++) {
        const u32 k = 8 * p + 4 * v;
        f4 out = token->sum[v];
        if (s.z.data && !masked) {
          const f4 gate = get(z + k, lanes(p, v));
          out = out * gate * sigmoid_from(gate, token->step[v]);
        }
        put(to + k, out, lanes(p, v));
      }
  });
}

// Up to `wide` channels, from `first` on, through all tokens of row b of the batch.
void channels(const Scan& s, float* y, float* final, float* kept, u32 b, u32 first, u32 wide) {
  alignas(64) u8 memory[MOST_BYTES];
  const u32 pairs = min(wide / 8, ceil_div(s.inner - first, 8));
  const bool whole = first + 8 * pairs <= s.inner;
  State* states = (State*)memory;
  Token* tokens = (Token*)(states + pairs * s.state);
  const auto each_state = [&](auto body) {
    for (u32 p = 0; p < pairs; p++)
      for (u32 n = 0; n < s.state; n++)
        for (u32 v = 0; v < 2; v++) {
          const u32 channel = first + 8 * p + 4 * v;
          body(states[p * s.state + n], n, v, channel, lanes_from(channel, s.inner));
        }
  };
  each_state([&](State& to, u32 n, u32 v, u32 channel, u32 lanes) {
    to.A2[v] = column(s.A, channel, n, s.state, lanes) * splat(LOG2E);
    to.h[v] = s.initial ? column(s.initial + b * s.inner * s.state, channel, n, s.state, lanes) : f4{};
  });
  for (u32 start = 0; start < s.length; start += STEPS) {
    const u32 count = min(STEPS, s.length - start), row = b * s.length + start;
    if (kept && start % TILE == 0)
      each_state([&](State& from, u32 n, u32 v, u32 channel, u32) { store(kept + kept_at(s, b, start / TILE, channel, n), from.h[v]); });
    for (u32 t = 0; t < count; t++)
      if (whole) begin<true>(s, tokens + t, pairs, row + t, first);
      else begin<false>(s, tokens + t, pairs, row + t, first);
    for (u32 p = 0; p < pairs; p++) {
      State* own = states + p * s.state;
      Token* token = tokens + p * STRIDE;
      const u32 group = s.group(first + 8 * p);
      // Rates are in [least, most] or between 0 and one of them; steps between `shortest` and `longest`.
      f4 least[2] = {}, most[2] = {}, longest[2] = {}, shortest = {};
      for (u32 n = 0; n < s.state; n++)
        ALL_OF for (u32 v = 0; v < 2; v++) least[v] = at_most(own[n].A2[v], least[v]), most[v] = at_least(own[n].A2[v], most[v]);
      for (u32 t = 0; t < count; t++)
        ALL_OF for (u32 v = 0; v < 2; v++)
          longest[v] = at_least(token[t].step[v], longest[v]), shortest = at_most(token[t].step[v], shortest);
      // False for NaN as well.
      i4 within = shortest >= 0;
      for (u32 v = 0; v < 2; v++) within &= (most[v] <= 0) & (longest[v] * least[v] >= -126);
      if (all(within)) advance<true>(s, row, count, group, own, token);
      else advance<false>(s, row, count, group, own, token);
    }
    for (u32 t = 0; t < count; t++)
      if (whole) finish<true>(s, tokens + t, y, pairs, row + t, first);
      else finish<false>(s, tokens + t, y, pairs, row + t, first);
  }
  each_state([&](State& from, u32 n, u32 v, u32 channel, u32 lanes) {
    put_column(final + b * s.inner * s.state, channel, n, s.state, lanes, from.h[v]);
  });
}

// One channel's states: h = decay h + u B, and the sum of C h. They are read from `before` (0: zeros) and written to h.
template <bool whole>
INLINE float channel_step(u32 state, const float* decay, float* h, const float* before, const float* B, const float* C, f4 u) {
  f4 sum = {};
  for (u32 n = 0; n < state; n += 4) {
    const u32 count = whole ? 4 : min(4, state - n);
    const f4 old = before ? get(before + n, count) : f4{};
    const f4 now = madd(load(decay + n), old, u * get(B + n, count));
    put(h + n, now, count);
    sum = madd(get(C + n, count), now, sum);
  }
  return sum4(sum);
}

// A few tokens of four channels: states are lanes, and are read and written where they lie. The exponentials, long chains of dependent
// steps, go through in passes of their own: a processor sees only so far ahead.
template <bool whole>
void tokens(const Scan& s, float* y, float* final, u32 b, u32 first, bool logarithmic) {
  const u32 lanes = whole ? 4 : lanes_from(first, s.inner), group = s.group(first);
  float* states = final + (b * s.inner + first) * s.state;
  const float* before = s.initial ? s.initial + (b * s.inner + first) * s.state : nullptr;
  alignas(16) float rates[4][MOST_STATES], decay[4][MOST_STATES];
  const auto each = [&](auto body) {
    for (u32 r = 0; r < lanes; r++)
      for (u32 n = 0; n < s.state; n += 4) body(r, n, whole ? 4 : min(4, s.state - n));
  };
  each([&](u32 r, u32 n, u32 count) {
    const f4 a = get(s.A + (first + r) * s.state + n, count);
    store(rates[r] + n, logarithmic ? exp2_normal(at_most(a * splat(LOG2E), splat(128.0f))) : a);
  });
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
    each([&](u32 r, u32 n, u32) {
      store(decay[r] + n, exp2_normal(at_most(splat(rate[r]) * load(rates[r] + n), splat(128.0f))));
    });
    f4 out = {};
    ALL_OF for (u32 r = 0; r < 4; r++)
      if (whole || r < lanes)
        out[r] = channel_step<whole>(s.state, decay[r], states + r * s.state, before ? before + r * s.state : nullptr, B, C,
                                     splat(dx[r]));
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
  // As many channels together as there is room for, but a piece for every thread.
  const u32 most = MOST_BYTES / pair_bytes(s.state) * 8, pieces = ceil_div(max(1, team()), max(1, s.batch));
  const u32 wide = min(most, max(1, ceil_div(ceil_div(s.inner, pieces), 8)) * 8), items = ceil_div(s.inner, wide);
  parallel_for(s.batch * items, 1, [&](u32 item, u32 end) {
    for (; item < end; item++) channels(s, y, final, kept, item / items, item % items * wide, wide);
  });
}
