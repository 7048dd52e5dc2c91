// What the directions of the selective scan share.
#pragma once
#include "common/math.h"
#include "common/parallel.h"

namespace {
// Tokens between two kept states; the backward pass recomputes those between.
constexpr u32 TILE = 32;
// Channels that an item of the forward pass takes: a cache line of each row.
constexpr u32 CHANNELS = 16;

struct Rows {
  const float* data;
  u32 stride;
  INLINE_MEMBER const float* at(u32 row) const { return data + row * stride; }
};

// The arguments; see the table in selective-scan.cc.
struct Scan {
  u32 batch, length, inner, state, groups, softplus, tiles, blocks;
  Rows x, delta, B, C, z;
  const float *A, *D, *bias, *initial;
  const i32* marks;

  INLINE_MEMBER i32 mark(u32 row) const { return marks == nullptr ? 0 : marks[row]; }
  INLINE_MEMBER u32 group(u32 channel) const { return groups == 1 ? 0 : channel / (inner / groups) * state; }
  // Step sizes of four channels.
  INLINE_MEMBER f4 raw_step(u32 row, u32 channel, u32 lanes) const;
  INLINE_MEMBER f4 step(f4 raw) const { return softplus ? ::softplus(raw) : raw; }
};

INLINE u32 lanes_from(u32 channel, u32 inner) { return channel < inner ? min(4, inner - channel) : 0; }

INLINE_MEMBER f4 Scan::raw_step(u32 row, u32 channel, u32 lanes) const {
  f4 raw = get(delta.at(row) + channel, lanes);
  return bias == nullptr ? raw : raw + get(bias + channel, lanes);
}

// [channel, n] of four channels, as lanes.
INLINE f4 column(const float* rows, u32 channel, u32 n, u32 state, u32 lanes) {
  f4 v = {};
  for (u32 r = 0; r < 4; r++)
    if (r < lanes) v[r] = rows[(channel + r) * state + n];
  return v;
}
INLINE void put_column(float* rows, u32 channel, u32 n, u32 state, u32 lanes, f4 v) {
  for (u32 r = 0; r < 4; r++)
    if (r < lanes) rows[(channel + r) * state + n] = v[r];
}

INLINE Scan scan_of(const u32* w) {
  Scan s;
  s.batch = w[0], s.length = w[1], s.inner = w[2], s.state = w[3], s.groups = w[4], s.softplus = w[5];
  s.x = {(const float*)w[6], w[7]}, s.delta = {(const float*)w[8], w[9]};
  s.B = {(const float*)w[10], w[11]}, s.C = {(const float*)w[12], w[13]}, s.z = {(const float*)w[14], w[15]};
  s.A = (const float*)w[16], s.D = (const float*)w[17], s.bias = (const float*)w[18];
  s.initial = (const float*)w[19], s.marks = (const i32*)w[20];
  s.tiles = ceil_div(s.length, TILE), s.blocks = ceil_div(s.inner, CHANNELS);
  return s;
}

// Where the state before a tile is kept: [batch, tiles, blocks, state, 16 channels].
INLINE u32 kept_at(const Scan& s, u32 b, u32 tile, u32 channel, u32 n) {
  return (((b * s.tiles + tile) * s.blocks + channel / CHANNELS) * s.state + n) * CHANNELS + channel % CHANNELS;
}
}  // namespace
