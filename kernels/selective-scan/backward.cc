// selective-scan / backward: with gh the gradient of the state,
//   gh[t] = C[t] gy[t] + exp(d[t+1] A) gh[t+1], gC = sum_c gy h, gB = sum_c gh d x, gx = D gy + d sum_n gh B,
//   gd = sum_n gh (A a h[t-1] + B x), gA = sum_t gh d a h[t-1], with a = exp(d A).
//
// words: as forwards (21 of them), then addresses: 21 kept, 22 gy (0: none), 23 gFinal (0: none), 24 gx, 25 gdelta, 26 gB, 27 gC, 28 gz (0),
// 29 gA, 30 gD (0), 31 gbias (0), 32 gInitial (0), 33 scratch of `scan_backward_scratch` floats.
// Four channels are lanes. The states of a tile of 32 tokens are computed again from the one kept before it. Channels are dealt to at
// most 8 slots a group whatever the number of threads; each slot has sums of its own for gB and gC, which are added in order at the end.
#include "selective-scan/scan.h"

namespace {
constexpr u32 STATES = 64, SLOTS = 8;

struct Gradients {
  const float *kept, *gy, *final;
  float *x, *delta, *B, *C, *z, *A, *D, *bias, *initial, *scratch;
};

// What a block of four channels carries from tile to tile, and sums up: by state the gradients of the state and of A, and those of D and
// the bias.
struct Pair {
  f4 h, A;
};
struct Carry {
  Pair* states;
  f4 *D, *bias;
};

// What is computed again of a token and a state: the state before it and its decay; and sums over channels for gB and gC. A cache line.
struct Cell {
  f4 before, decay, B, C;
};

// Rows of cells lie one after the other, s.state long, and one more for the last state.
struct Tile {
  Cell cells[(TILE + 1) * STATES];
  // By token: x, the step, its derivative by what softplus got, sigmoid(z), and y before the gate.
  f4 x[TILE], step[TILE], slope[TILE], gate[TILE], y[TILE];
};

// What hangs on no state, for all tokens of a tile first, in two passes: a processor sees only so far ahead, and would wait for each
// chain's end. True if all exponents are between -126 and 0.
bool prepare(const Scan& s, Tile& tile, const f4* A2, u32 row, u32 tokens, u32 channel, u32 lanes) {
  for (u32 t = 0; t < tokens; t++) {
    const f4 raw = tile.slope[t] = s.raw_step(row + t, channel, lanes);
    if (s.softplus) tile.step[t] = exp_of_minus(raw);
    if (s.z.data) tile.gate[t] = exp_of_minus(get(s.z.at(row + t) + channel, lanes));
  }
  f4 shortest = {}, longest = {}, least = {}, most = {};
  for (u32 t = 0; t < tokens; t++) {
    const f4 raw = tile.slope[t], w = tile.step[t];
    const f4 step = tile.step[t] = s.softplus ? softplus_from(raw, w) : raw;
    if (s.softplus) tile.slope[t] = raw > splat(20.0f) ? splat(1.0f) : sigmoid_from(raw, w);
    if (s.z.data) tile.gate[t] = sigmoid_from(get(s.z.at(row + t) + channel, lanes), tile.gate[t]);
    tile.x[t] = get(s.x.at(row + t) + channel, lanes);
    shortest = at_most(step, shortest);
    longest = at_least(step, longest);
  }
  for (u32 n = 0; n < s.state; n++) {
    least = at_most(A2[n], least);
    most = at_least(A2[n], most);
  }
  return all((shortest >= 0) & (most <= 0) & (longest * least >= -126));
}

// One token's states. cleared: it begins a segment. within: see `prepare`. Returns the sum of C h.
template <bool cleared, bool within>
INLINE f4 replay_token(u32 state, const f4* A2, Cell* cells, const float* B, const float* C, f4 step, f4 dx) {
  Cell* after = cells + state;
  f4 y = {};
  for (u32 n = 0; n < state; n++) {
    f4 a = {};
    if (!cleared) a = within ? exp2_between(step * A2[n]) : exp2_normal(at_most(step * A2[n], splat(128.0f)));
    const f4 h = cleared ? dx * splat(B[n]) : madd(a, cells[n].before, dx * splat(B[n]));
    cells[n].decay = a;
    after[n].before = h;
    y = madd(splat(C[n]), h, y);
  }
  return y;
}

// Computes a tile again from the state before it.
template <bool within>
void replay(const Scan& s, Tile& tile, const f4* A2, u32 row, u32 tokens, u32 group) {
  for (u32 t = 0; t < tokens; t++) {
    const i32 mark = s.mark(row + t);
    Cell* cells = tile.cells + t * s.state;
    if (mark < 0) {
      for (u32 n = 0; n < s.state; n++) cells[s.state + n].before = cells[n].before;
      continue;
    }
    const f4 step = tile.step[t], dx = step * tile.x[t];
    const float *B = s.B.at(row + t) + group, *C = s.C.at(row + t) + group;
    tile.y[t] = mark > 0 ? replay_token<true, within>(s.state, A2, cells, B, C, step, dx)
                         : replay_token<false, within>(s.state, A2, cells, B, C, step, dx);
  }
}

// Sums over a token's states.
struct Sums {
  f4 x, step;
};

// cleared: the token begins a segment, which passes nothing on.
template <bool cleared>
INLINE Sums reverse_token(u32 state, const f4* A2, Pair* carried, Cell* cells, const float* B, const float* C, f4 gy, f4 step, f4 dx) {
  const Cell* after = cells + state;
  f4 gx = {}, gstep = {};
  for (u32 n = 0; n < state; n++) {
    const f4 a = cells[n].decay, gh = madd(splat(C[n]), gy, carried[n].h);
    cells[n].C = madd(gy, after[n].before, cells[n].C);
    cells[n].B = madd(gh, dx, cells[n].B);
    gx = madd(gh, splat(B[n]), gx);
    if (!cleared) {
      const f4 past = gh * (a * cells[n].before);
      gstep = madd(past, A2[n], gstep);
      carried[n].A = madd(past, step, carried[n].A);
    }
    carried[n].h = cleared ? f4{} : a * gh;
  }
  return {gx, gstep};
}

// Runs a tile backwards, and adds to its sums for gB and gC.
void reverse(const Scan& s, const Gradients& g, Tile& tile, const f4* A2, const Carry& carry, u32 row, u32 tokens, u32 channel, u32 lanes) {
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
      const f4 z = get(s.z.at(row + t) + channel, lanes), gate = tile.gate[t];
      if (g.z) put(g.z + at, gy * madd(D, x, tile.y[t]) * silu_gradient(z, gate), lanes);
      gy *= z * gate;
    }
    const float *B = s.B.at(row + t) + group, *C = s.C.at(row + t) + group;
    Cell* cells = tile.cells + t * s.state;
    const Sums sums = mark > 0 ? reverse_token<true>(s.state, A2, carry.states, cells, B, C, gy, step, dx)
                               : reverse_token<false>(s.state, A2, carry.states, cells, B, C, gy, step, dx);
    // A2 is A log2 e.
    f4 gstep = madd(sums.x, x, sums.step * splat(1 / LOG2E));
    if (s.softplus) gstep *= tile.slope[t];
    put(g.x + at, madd(step, sums.x, D * gy), lanes);
    put(g.delta + at, gstep, lanes);
    *carry.D = madd(gy, x, *carry.D);
    *carry.bias += gstep;
  }
}

// All channels of one slot. Its sums for gB and gC go to partB, partC: [batch * length, state].
void run_slot(const Scan& s, const Gradients& g, u32 first, u32 quads, f4* carried, float* partB, float* partC) {
  static_assert(sizeof(Tile) < 160000, "tiles lie on the stack");
  Tile tile;
  f4 A2[STATES];
  const u32 size = 2 * s.state + 2;
  for (u32 i = 0; i < quads * size; i++) carried[i] = f4{};
  const auto carry_of = [&](u32 q) {
    f4* at = carried + q * size;
    return Carry{(Pair*)at, at + 2 * s.state, at + 2 * s.state + 1};
  };
  for (u32 b = 0; b < s.batch; b++) {
    for (u32 q = 0; q < quads; q++)
      for (u32 n = 0; n < s.state; n++) {
        const u32 channel = first + 4 * q, lanes = lanes_from(channel, s.inner);
        carry_of(q).states[n].h = g.final ? column(g.final + b * s.inner * s.state, channel, n, s.state, lanes) : f4{};
      }
    for (u32 k = s.tiles; k-- > 0;) {
      const u32 row = b * s.length + k * TILE, tokens = min(TILE, s.length - k * TILE);
      for (u32 i = 0; i < tokens * s.state; i++) tile.cells[i].B = tile.cells[i].C = f4{};
      for (u32 q = 0; q < quads; q++) {
        const u32 channel = first + 4 * q, lanes = lanes_from(channel, s.inner);
        for (u32 n = 0; n < s.state; n++) {
          A2[n] = column(s.A, channel, n, s.state, lanes) * splat(LOG2E);
          tile.cells[n].before = load(g.kept + kept_at(s, b, k, channel, n));
        }
        if (prepare(s, tile, A2, row, tokens, channel, lanes)) replay<true>(s, tile, A2, row, tokens, s.group(channel));
        else replay<false>(s, tile, A2, row, tokens, s.group(channel));
        reverse(s, g, tile, A2, carry_of(q), row, tokens, channel, lanes);
      }
      for (u32 i = 0; i < tokens * s.state; i++) {
        partB[row * s.state + i] = sum4(tile.cells[i].B);
        partC[row * s.state + i] = sum4(tile.cells[i].C);
      }
    }
    for (u32 q = 0; q < quads && g.initial; q++)
      for (u32 n = 0; n < s.state; n++) {
        const u32 channel = first + 4 * q;
        put_column(g.initial + b * s.inner * s.state, channel, n, s.state, lanes_from(channel, s.inner), carry_of(q).states[n].h);
      }
  }
  for (u32 q = 0; q < quads; q++) {
    const u32 channel = first + 4 * q, lanes = lanes_from(channel, s.inner);
    const Carry c = carry_of(q);
    for (u32 n = 0; n < s.state; n++) put_column(g.A, channel, n, s.state, lanes, c.states[n].A);
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
