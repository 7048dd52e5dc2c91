// causalConv1d: y[t, c] = activation(bias[c] + sum_k weight[c, k] x[t - (width - 1) + k, c]); depthwise, causal.
// x, y [batch, length, channels] (x's rows `stride` apart), weight [channels, width], bias [channels] or 0, state [batch, width - 1, channels] or
// 0: the last inputs of what came before. marks [batch, length] or 0: 1 forgets what came before, -1 is skipped as if it were not there.
// taps: scratch, int32 [batch, length + 1, width]: which of [state, x] each weight meets, -1 for none; the last row is what a
// continuation needs. turned: scratch, float32 [width, channels], the weight's transpose.
#include "common/math.h"
#include "common/parallel.h"

namespace {
struct Conv {
  u32 batch, length, channels, width, silu;
  const float *x, *weight, *bias, *state;
  u32 stride;
  const i32* marks;
  i32* taps;
  float* turned;

  INLINE_MEMBER const i32* tap(u32 b, u32 t) const { return taps + (b * (length + 1) + t) * width; }
  // The row that a tap meets, or null where it reads as zeros.
  INLINE_MEMBER const float* row(u32 b, i32 at) const {
    if (at >= (i32)width - 1) return x + (b * length + (u32)at - (width - 1)) * stride;
    return at < 0 || state == nullptr ? nullptr : state + (b * (width - 1) + (u32)at) * channels;
  }
};

Conv conv_of(const u32* w) {
  Conv c = {w[0], w[1], w[2], w[3], w[4], (const float*)w[5], (const float*)w[7], (const float*)w[8], (const float*)w[9], w[6],
            (const i32*)w[10], (i32*)w[11], (float*)w[12]};
  for (u32 b = 0; b < c.batch; b++) {
    // The latest `width` real tokens, oldest first, kept where the next token's row will be.
    i32* window = c.taps + (b * (c.length + 1) + c.length) * c.width;
    window[0] = -1;
    for (u32 k = 1; k < c.width; k++) window[k] = (i32)k - 1;
    for (u32 t = 0; t < c.length; t++) {
      i32* own = c.taps + (b * (c.length + 1) + t) * c.width;
      const i32 mark = c.marks ? c.marks[b * c.length + t] : 0;
      if (mark > 0)
        for (u32 k = 0; k < c.width; k++) window[k] = -1;
      if (mark >= 0) {
        for (u32 k = 1; k < c.width; k++) window[k - 1] = window[k];
        window[c.width - 1] = (i32)(c.width - 1 + t);
      }
      for (u32 k = 0; k < c.width; k++) own[k] = mark < 0 ? -1 : window[k];
    }
  }
  return c;
}

// The weights of channels [begin, end).
void turn(const Conv& c, u32 begin, u32 end) {
  u32 i = begin;
  for (; c.width == 4 && i + 4 <= end; i += 4) {
    f4 w[4];
    ALL_OF for (u32 k = 0; k < 4; k++) w[k] = load(c.weight + 4 * (i + k));
    transpose(w[0], w[1], w[2], w[3]);
    ALL_OF for (u32 k = 0; k < 4; k++) store(c.turned + k * c.channels + i, w[k]);
  }
  for (u32 k = 0; k < c.width; k++)
    for (u32 j = i; j < end; j++) c.turned[k * c.channels + j] = c.weight[j * c.width + k];
}

// Weighted sums of four channels of token t.
INLINE f4 window_sum(const Conv& c, const i32* taps, u32 b, u32 i, u32 lanes) {
  f4 sum = c.bias ? get(c.bias + i, lanes) : f4{};
  for (u32 k = 0; k < c.width; k++) {
    const float* row = c.row(b, taps[k]);
    if (row) sum = madd(get(c.turned + k * c.channels + i, lanes), get(row + i, lanes), sum);
  }
  return sum;
}

// Channels [begin, end) of token t.
void token(const Conv& c, float* y, u32 b, u32 t, u32 begin, u32 end) {
  const i32* taps = c.tap(b, t);
  float* out = y + (b * c.length + t) * c.channels;
  if (taps[c.width - 1] < 0) {
    for (u32 i = begin; i < end; i++) out[i] = 0;
    return;
  }
  // The usual window, all of it there: rows and weights side by side.
  const float* rows[4];
  bool usual = c.width == 4;
  for (u32 k = 0; k < 4 && usual; k++) usual = (rows[k] = c.row(b, taps[k])) != nullptr;
  for (u32 i = begin; i < end; i += 4) {
    const u32 lanes = min(4, end - i);
    f4 sum;
    if (usual && lanes == 4) {
      const float* w = c.turned + i;
      sum = c.bias ? load(c.bias + i) : f4{};
      sum = madd(load(w), load(rows[0] + i), sum);
      sum = madd(load(w + c.channels), load(rows[1] + i), sum);
      sum = madd(load(w + 2 * c.channels), load(rows[2] + i), sum);
      sum = madd(load(w + 3 * c.channels), load(rows[3] + i), sum);
    } else
      sum = window_sum(c, taps, b, i, lanes);
    if (c.silu) sum = silu(sum);
    put(out + i, sum, lanes);
  }
}

// What a continuation needs of channels [begin, end). `final` may be where the state is: rows move towards its front.
void carry(const Conv& c, float* final, u32 begin, u32 end) {
  const u32 carried = c.width - 1;
  for (u32 b = 0; b < c.batch; b++)
    for (u32 k = 0; k < carried; k++) {
      const float* row = c.row(b, c.tap(b, c.length)[k + 1]);
      float* to = final + (b * carried + k) * c.channels;
      for (u32 i = begin; i < end; i += 4) put(to + i, row ? get(row + i, end - i) : f4{}, end - i);
    }
}
}  // namespace

// words: batch, length, channels, width, silu, x, stride, weight, bias, state, marks, taps, turned.
EXPORT(causal_conv1d)(float* y, float* final, const u32* words) {
  constexpr u32 FEW = 16, RUN = 64;
  const Conv c = conv_of(words);
  // A few tokens, as when one is decoded: threads share the channels.
  if (c.batch * c.length <= FEW)
    return parallel_for(ceil_div(c.channels, RUN), 4, [&](u32 item, u32 last) {
      const u32 begin = item * RUN, end = min(c.channels, last * RUN);
      turn(c, begin, end);
      for (u32 i = 0; i < c.batch * c.length; i++) token(c, y, i / c.length, i % c.length, begin, end);
      carry(c, final, begin, end);
    });
  turn(c, 0, c.channels);
  parallel_for(c.batch * c.length, max(1, 16384 / max(1, c.channels * c.width)), [&](u32 item, u32 end) {
    for (; item < end; item++) token(c, y, item / c.length, item % c.length, 0, c.channels);
  });
  carry(c, final, 0, c.channels);
}

constexpr u32 WIDEST = 16, LINE = 16, LONGEST = 64, TOGETHER = 16;
using Block = f4[TOGETHER][LONGEST / 4];

// g: gradients of the weighted sums of some tokens, in a run of channels. In passes: a processor sees only so far ahead, and would wait
// for each chain's end.
void sums_gradient(const Conv& c, Block& g, const float* gy, u32 b, u32 t, u32 count, u32 first, u32 last) {
  const u32 quads = ceil_div(last - first, 4);
  Block sum, w;
  for (u32 j = 0; j < count && c.silu; j++) {
    const i32* taps = c.tap(b, t + j);
    for (u32 v = 0; v < quads; v++) {
      sum[j][v] = window_sum(c, taps, b, first + 4 * v, last - first - 4 * v);
      w[j][v] = exp_of_minus(sum[j][v]);
    }
  }
  for (u32 j = 0; j < count; j++)
    for (u32 v = 0; v < quads; v++) {
      const f4 y = get(gy + (b * c.length + t + j) * c.channels + first + 4 * v, last - first - 4 * v);
      g[j][v] = c.silu ? y * silu_gradient(sum[j][v], sigmoid_from(sum[j][v], w[j][v])) : y;
    }
}

// Gradients: gx [batch, length, channels], gstate [batch, width - 1, channels], gweight [channels, width], gbias [channels], all written.
// gy, gfinal: 0 if nothing depends on them. A run of 16 channels, a cache line, or of 64 where there are
// enough for all threads, goes through all tokens at a time: no sums are shared.
EXPORT(causal_conv1d_backward)(float* gx, float* gstate, float* gweight, float* gbias, const float* gy, const float* gfinal,
                               const u32* words) {
  const Conv c = conv_of(words);
  turn(c, 0, c.channels);
  const u32 carried = c.width - 1;
  const u32 line = c.channels >= 2 * team() * LONGEST ? LONGEST : LINE;
  parallel_for(ceil_div(c.channels, line), max(1, 1024 / max(1, c.batch * c.length * c.width)), [&](u32 item, u32 end) {
    for (; item < end; item++) {
      const u32 first = item * line, last = min(c.channels, first + line);
      f4 gw[WIDEST][LONGEST / 4] = {}, gb[LONGEST / 4] = {};
      const auto clear = [&](float* rows, u32 count) {
        for (u32 r = 0; r < count; r++)
          for (u32 i = first; i < last; i++) rows[r * c.channels + i] = 0;
      };
      clear(gx, c.batch * c.length);
      clear(gstate, c.batch * carried);
      for (u32 b = 0; b < c.batch; b++) {
        const auto gradient_at = [&](i32 at) {
          return at >= (i32)carried ? gx + (b * c.length + (u32)at - carried) * c.channels
                                    : gstate + (b * carried + (u32)at) * c.channels;
        };
        for (u32 start = 0; start < c.length && gy; start += TOGETHER) {
          const u32 count = min(TOGETHER, c.length - start);
          Block g;
          sums_gradient(c, g, gy, b, start, count, first, last);
          for (u32 j = 0; j < count; j++) {
            const i32* taps = c.tap(b, start + j);
            if (taps[c.width - 1] < 0) continue;
            for (u32 v = 0; 4 * v < last - first; v++) gb[v] += g[j][v];
            for (u32 k = 0; k < c.width; k++) {
              if (taps[k] < 0) continue;
              const float *row = c.row(b, taps[k]), *weight = c.turned + k * c.channels + first;
              float* to = gradient_at(taps[k]) + first;
              for (u32 i = 0; i < last - first; i += 4) {
                const u32 lanes = last - first - i;
                if (row) gw[k][i / 4] = madd(g[j][i / 4], get(row + first + i, lanes), gw[k][i / 4]);
                put(to + i, madd(get(weight + i, lanes), g[j][i / 4], get(to + i, lanes)), lanes);
              }
            }
          }
        }
        for (u32 k = 0; k < carried && gfinal; k++) {
          const i32 at = c.tap(b, c.length)[k + 1];
          if (at < 0) continue;
          float* to = gradient_at(at);
          for (u32 i = first; i < last; i++) to[i] += gfinal[(b * carried + k) * c.channels + i];
        }
      }
      for (u32 i = first; i < last; i++) {
        gbias[i] = gb[(i - first) / 4][i % 4];
        for (u32 k = 0; k < c.width; k++) gweight[i * c.width + k] = gw[k][(i - first) / 4][i % 4];
      }
    }
  });
}
