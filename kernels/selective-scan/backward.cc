// selective-scan / backward: with gh the gradient of the state,
//   gh[t] = C[t] gy[t] + exp(d[t+1] A) gh[t+1], gC = sum_c gy h, gB = sum_c gh d x, gx = D gy + d sum_n gh B,
//   gd = sum_n gh (A a h[t-1] + B x), gA = sum_t gh d a h[t-1], with a = exp(d A).
//
// words: as forwards (21 of them), then addresses: 21 kept, 22 gy (0: none), 23 gFinal (0: none), 24 gx, 25 gdelta, 26 gB, 27 gC, 28 gz (0),
// 29 gA, 30 gD (0), 31 gbias (0), 32 gInitial (0), 33 scratch of `scan_backward_scratch` floats.
// Four channels are lanes. The states of a tile of 32 tokens are computed again from the one kept before it. Channels are dealt to at
// most 8 slots whatever the number of threads; each slot has sums of its own for gB and gC, which are added in order at the end.
#include "selective-scan/scan.h"

namespace {
constexpr u32 STATES = 64, SLOTS = 8;

struct Gradients {
  const float *kept, *gy, *final;
  float *x, *delta, *B, *C, *z, *A, *D, *bias, *initial, *scratch;
};

// What a block of four channels carries from tile to tile, and sums up.
struct Carry {
  f4 *h, *A;
  f4 *D, *bias;
};

struct Tile {
  f4 h[TILE + 1][STATES];
  f4 decay[TILE][STATES];
  f4 raw[TILE], step[TILE], x[TILE], y[TILE];
};

// Computes a tile again from the state before it.
void replay(const Scan& s, Tile& tile, const f4* A2, u32 row, u32 tokens, u32 channel, u32 lanes) {
  const u32 group = s.group(channel);
  for (u32 t = 0; t < tokens; t++) {
    const i32 mark = s.mark(row + t);
    const f4* before = tile.h[t];
    f4* after = tile.h[t + 1];
    if (mark < 0) {
      for (u32 n = 0; n < s.state; n++) after[n] = before[n];
      continue;
    }
    const f4 x = tile.x[t] = get(s.x.at(row + t) + channel, lanes);
    const f4 raw = tile.raw[t] = s.raw_step(row + t, channel, lanes), step = tile.step[t] = s.step(raw);
    const f4 dx = step * x;
    const float *B = s.B.at(row + t) + group, *C = s.C.at(row + t) + group;
    f4 y = {};
    for (u32 n = 0; n < s.state; n++) {
      // A cleared state passes nothing on, in either direction.
      const f4 a = mark > 0 ? f4{} : exp2_normal(at_most(step * A2[n], splat(128.0f)));
      const f4 h = mark > 0 ? dx * splat(B[n]) : madd(a, before[n], dx * splat(B[n]));
      tile.decay[t][n] = a;
      after[n] = h;
      y = madd(splat(C[n]), h, y);
    }
    tile.y[t] = y;
  }
}

// Runs a tile backwards; sums for gB and gC over channels go to accB and accC.
void reverse(const Scan& s, const Gradients& g, const Tile& tile, const f4* A2, const Carry& carry, f4 (*accB)[STATES], f4 (*accC)[STATES],
             u32 row, u32 tokens, u32 channel, u32 lanes) {
  const u32 group = s.group(channel);
  const f4 D = s.D ? get(s.D + channel, lanes) : f4{};
  for (u32 t = tokens; t-- > 0;) {
    const u32 at = (row + t) * s.inner + channel;
    const i32 mark = s.mark(row + t);
    if (mark < 0) {
      put(g.x + at, f4{}, lanes);
      put(g.delta + at, f4{}, lanes);
      if (g.z) put(g.z + at, f4{}, lanes);
      continue;
    }
    const f4 x = tile.x[t], step = tile.step[t], dx = step * x;
    f4 gy = g.gy ? get(g.gy + at, lanes) : f4{};
    if (s.z.data) {
      const f4 z = get(s.z.at(row + t) + channel, lanes), gate = sigmoid(z);
      if (g.z) put(g.z + at, gy * madd(D, x, tile.y[t]) * silu_gradient(z, gate), lanes);
      gy *= z * gate;
    }
    const float *B = s.B.at(row + t) + group, *C = s.C.at(row + t) + group;
    const f4 *before = tile.h[t], *after = tile.h[t + 1], *decay = tile.decay[t];
    f4 gx = {}, gstep = {};
    for (u32 n = 0; n < s.state; n++) {
      const f4 b = splat(B[n]), a = decay[n];
      const f4 gh = madd(splat(C[n]), gy, carry.h[n]);
      const f4 past = mark > 0 ? f4{} : gh * (a * before[n]);
      accC[t][n] = madd(gy, after[n], accC[t][n]);
      accB[t][n] = madd(gh, dx, accB[t][n]);
      gx = madd(gh, b, gx);
      gstep = madd(past, A2[n], gstep);
      carry.A[n] = madd(past, step, carry.A[n]);
      carry.h[n] = a * gh;
    }
    // A2 is A log2 e.
    gstep = madd(gx, x, gstep * splat(1 / LOG2E));
    if (s.softplus) gstep *= softplus_gradient(tile.raw[t]);
    put(g.x + at, madd(step, gx, D * gy), lanes);
    put(g.delta + at, gstep, lanes);
    *carry.D = madd(gy, x, *carry.D);
    *carry.bias += gstep;
  }
}

// All channels of one slot. Its sums for gB and gC go to partB, partC: [batch * length, state].
void run_slot(const Scan& s, const Gradients& g, u32 first, u32 quads, f4* carried, float* partB, float* partC) {
  static_assert(sizeof(Tile) < 80000, "tiles lie on the stack");
  Tile tile;
  f4 A2[STATES], accB[TILE][STATES], accC[TILE][STATES];
  const u32 size = 2 * s.state + 2;
  for (u32 i = 0; i < quads * size; i++) carried[i] = f4{};
  const auto carry_of = [&](u32 q) {
    f4* at = carried + q * size;
    return Carry{at, at + s.state, at + 2 * s.state, at + 2 * s.state + 1};
  };
  for (u32 b = 0; b < s.batch; b++) {
    for (u32 q = 0; q < quads; q++)
      for (u32 n = 0; n < s.state; n++) {
        const u32 channel = first + 4 * q, lanes = lanes_from(channel, s.inner);
        carry_of(q).h[n] = g.final ? column(g.final + b * s.inner * s.state, channel, n, s.state, lanes) : f4{};
      }
    for (u32 k = s.tiles; k-- > 0;) {
      const u32 row = b * s.length + k * TILE, tokens = min(TILE, s.length - k * TILE);
      for (u32 t = 0; t < tokens; t++)
        for (u32 n = 0; n < s.state; n++) accB[t][n] = accC[t][n] = f4{};
      for (u32 q = 0; q < quads; q++) {
        const u32 channel = first + 4 * q, lanes = lanes_from(channel, s.inner);
        for (u32 n = 0; n < s.state; n++) {
          A2[n] = column(s.A, channel, n, s.state, lanes) * splat(LOG2E);
          tile.h[0][n] = load(g.kept + kept_at(s, b, k, channel, n));
        }
        replay(s, tile, A2, row, tokens, channel, lanes);
        reverse(s, g, tile, A2, carry_of(q), accB, accC, row, tokens, channel, lanes);
      }
      for (u32 t = 0; t < tokens; t++)
        for (u32 n = 0; n < s.state; n++) {
          partB[(row + t) * s.state + n] = sum4(accB[t][n]);
          partC[(row + t) * s.state + n] = sum4(accC[t][n]);
        }
    }
    for (u32 q = 0; q < quads && g.initial; q++)
      for (u32 n = 0; n < s.state; n++) {
        const u32 channel = first + 4 * q;
        put_column(g.initial + b * s.inner * s.state, channel, n, s.state, lanes_from(channel, s.inner), carry_of(q).h[n]);
      }
  }
  for (u32 q = 0; q < quads; q++) {
    const u32 channel = first + 4 * q, lanes = lanes_from(channel, s.inner);
    const Carry c = carry_of(q);
    for (u32 n = 0; n < s.state; n++) put_column(g.A, channel, n, s.state, lanes, c.A[n]);
    if (g.D) put(g.D + channel, *c.D, lanes);
    if (g.bias) put(g.bias + channel, *c.bias, lanes);
  }
}
}  // namespace

// Its scratch: backwardScratch in packages/backend-wasm/src/fused/selective-scan.ts.
EXPORT(selective_scan_backward)(const u32* words) {
  const Scan s = scan_of(words);
  const u32* w = words + 21;
  const Gradients g = {(const float*)w[0], (const float*)w[1], (const float*)w[2], (float*)w[3], (float*)w[4],
                       (float*)w[5], (float*)w[6], (float*)w[7], (float*)w[8], (float*)w[9], (float*)w[10],
                       (float*)w[11], (float*)w[12]};
  // A slot's channels are of one group.
  const u32 per_group = ceil_div(SLOTS, s.groups), width = s.inner / s.groups;
  const u32 quads = ceil_div(ceil_div(width, 4), per_group), rows = s.batch * s.length;
  const u32 carried = quads * 4 * (2 * s.state + 2), slots = s.groups * per_group;
  float* parts = g.scratch + slots * carried;
  parallel_for(slots, 1, [&](u32 slot, u32 end) {
    for (; slot < end; slot++) {
      const u32 group = slot / per_group, skip = slot % per_group * quads * 4;
      const u32 own = skip < width ? min(quads, ceil_div(width - skip, 4)) : 0;
      float* part = parts + slot * 2 * rows * s.state;
      if (own > 0)
        run_slot(s, g, group * width + skip, own, (f4*)(g.scratch + slot * carried), part, part + rows * s.state);
      else
        for (u32 i = 0; i < 2 * rows * s.state; i++) part[i] = 0;
    }
  });
  parallel_for(rows, 64, [&](u32 row, u32 end) {
    for (; row < end; row++)
      for (u32 j = 0; j < s.groups * s.state; j++) {
        float b = 0, c = 0;
        for (u32 k = 0; k < per_group; k++) {
          const float* part = parts + (j / s.state * per_group + k) * 2 * rows * s.state + row * s.state + j % s.state;
          b += part[0];
          c += part[rows * s.state];
        }
        const bool real = s.mark(row) >= 0;
        g.B[row * s.groups * s.state + j] = real ? b : 0;
        g.C[row * s.groups * s.state + j] = real ? c : 0;
      }
  });
}
