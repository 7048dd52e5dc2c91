// matmul: c [m, n] = a [m, k] b [k, n] (+ bias [n], or + what is there), the loop nest of Goto and van de Geijn (2008).
// Element (i, p) of a is a[i * a_row + p * a_column], and so for b. b may be stored as bf16, f16 or q8_0 if b_row is 1 (rows of a weight).
// The inner kernel keeps 3 x 12 sums in nine registers: the most that V8 gives on x86 without spilling.
// Panels of b (12 columns, 256 deep: 12 KiB) stay in the first cache, blocks of a (24 to 96 x 256) in the second.
// Sums are float32, in an order that depends on the shape alone.
#include "common/half.h"
#include "common/parallel.h"

namespace {
constexpr u32 MR = 3, NR = 12, MC = 96, LEAST = 24, KC = 256, NC = 1536, GROUP = 16;
alignas(64) float packed_b[KC * NC];

enum Format : u32 { FLOAT32, BF16, F16, Q8_0 };

struct Matrix {
  const void* data;
  u32 row;
  u32 column;
  u32 format;
};

// Four consecutive elements of a stored row, `at` a multiple of 4.
template <u32 format>
INLINE f4 four(const void* row, u32 at) {
  if constexpr (format == FLOAT32) return load((const float*)row + at);
  if constexpr (format == BF16) return decode_bf16((const u16*)row + at);
  if constexpr (format == F16) return decode_f16((const u16*)row + at);
  const u8* block = (const u8*)row + at / Q8 * Q8_BYTES;
  return splat(q8_scale(block)) * q8_values(block, at % Q8);
}

template <u32 format>
INLINE float one(const void* row, u32 at) {
  if constexpr (format == FLOAT32) return ((const float*)row)[at];
  if constexpr (format == BF16) return __builtin_bit_cast(float, (u32)((const u16*)row)[at] << 16);
  if constexpr (format == F16) return decode_f16_one(((const u16*)row)[at]);
  const u8* block = (const u8*)row + at / Q8 * Q8_BYTES;
  return q8_scale(block) * (float)(i8)block[2 + at % Q8];
}

// Where stored row j begins; `stride` counts elements.
template <u32 format>
INLINE const void* row_at(const void* data, u32 j, u32 stride) {
  if constexpr (format == FLOAT32) return (const float*)data + j * stride;
  if constexpr (format == BF16 || format == F16) return (const u16*)data + j * stride;
  return (const u8*)data + j * (stride / Q8) * Q8_BYTES;
}

// Where element `p` of a stored row lies, a multiple of 32.
template <u32 format>
INLINE const void* at(const void* row, u32 p) {
  if constexpr (format == FLOAT32) return (const float*)row + p;
  if constexpr (format == BF16 || format == F16) return (const u16*)row + p;
  return (const u8*)row + p / Q8 * Q8_BYTES;
}

// packed[p * NR + c] = b[p0 + p, j0 + c], zero beyond `columns`: b's columns are stored one after the other.
template <u32 format>
void pack_columns(float* packed, const Matrix& b, u32 j0, u32 columns, u32 p0, u32 depth) {
  for (u32 c = 0; c < NR; c += 4) {
    const void* rows[4];
    for (u32 r = 0; r < 4; r++) rows[r] = row_at<format>(b.data, j0 + min(c + r, columns - 1), b.column);
    u32 p = 0;
    for (; p + 4 <= depth; p += 4) {
      f4 w = four<format>(rows[0], p0 + p), x = four<format>(rows[1], p0 + p);
      f4 y = four<format>(rows[2], p0 + p), z = four<format>(rows[3], p0 + p);
      transpose(w, x, y, z);
      store(packed + p * NR + c, w);
      store(packed + (p + 1) * NR + c, x);
      store(packed + (p + 2) * NR + c, y);
      store(packed + (p + 3) * NR + c, z);
    }
    for (; p < depth; p++)
      for (u32 r = 0; r < 4; r++) packed[p * NR + c + r] = one<format>(rows[r], p0 + p);
  }
}

void pack_rows(float* packed, const Matrix& b, u32 j0, u32 columns, u32 p0, u32 depth) {
  const float* from = (const float*)b.data + p0 * b.row + j0 * b.column;
  for (u32 p = 0; p < depth; p++, from += b.row, packed += NR)
    for (u32 c = 0; c < NR; c++) packed[c] = c < columns ? from[c * b.column] : 0;
}

// As pack_rows for several panels side by side, all whole, of dense rows: a row is read as it lies.
void pack_dense(float* packed, const Matrix& b, u32 j0, u32 panels, u32 p0, u32 depth) {
  const float* row = (const float*)b.data + p0 * b.row + j0;
  for (u32 p = 0; p < depth; p++, row += b.row, packed += NR) {
    const float* from = row;
    float* to = packed;
    for (u32 panel = 0; panel < panels; panel++, from += NR, to += NR * depth)
      ALL_OF for (u32 c = 0; c < NR; c += 4) store(to + c, load(from + c));
  }
}

void pack_panel(float* packed, const Matrix& b, u32 j0, u32 columns, u32 p0, u32 depth) {
  if (b.format == BF16) pack_columns<BF16>(packed, b, j0, columns, p0, depth);
  else if (b.format == F16) pack_columns<F16>(packed, b, j0, columns, p0, depth);
  else if (b.format == Q8_0) pack_columns<Q8_0>(packed, b, j0, columns, p0, depth);
  else if (b.row == 1 && b.column != 1) pack_columns<FLOAT32>(packed, b, j0, columns, p0, depth);
  else pack_rows(packed, b, j0, columns, p0, depth);
}

// Panels from number `panel` on of columns that begin at j0.
void pack_panels(float* packed, const Matrix& b, u32 j0, u32 columns, u32 panel, u32 end, u32 p0, u32 depth) {
  if (b.format == FLOAT32 && b.column == 1 && columns >= NR) {
    const u32 whole = min(end, columns / NR);
    if (panel < whole) pack_dense(packed + panel * NR * depth, b, j0 + panel * NR, whole - panel, p0, depth);
    panel = max(panel, whole);
  }
  for (; panel < end; panel++) pack_panel(packed + panel * NR * depth, b, j0 + panel * NR, min(NR, columns - panel * NR), p0, depth);
}

// packed[i * depth + p * MR + r] = a[i0 + i + r, p0 + p] for i = 0, 3, 6...; beyond `rows` the last row again.
void pack_a(float* packed, const float* a, u32 a_row, u32 a_column, u32 rows, u32 depth) {
  for (u32 i = 0; i < rows; i += MR, packed += MR * depth) {
    const float *x = a + i * a_row, *y = a + min(i + 1, rows - 1) * a_row, *z = a + min(i + 2, rows - 1) * a_row;
    float* to = packed;
    u32 p = 0;
    if (a_column == 1)
      for (; p + 4 <= depth; p += 4, to += 4 * MR) {
        const f4 r = load(x + p), s = load(y + p), t = load(z + p);
        const f4 rs = __builtin_shufflevector(r, s, 0, 4, 1, 5);
        store(to, __builtin_shufflevector(rs, __builtin_shufflevector(t, r, 0, 0, 5, 5), 0, 1, 4, 6));
        store(to + 4, __builtin_shufflevector(__builtin_shufflevector(s, t, 1, 1, 5, 5), __builtin_shufflevector(r, s, 2, 2, 6, 6), 0, 2, 4, 6));
        store(to + 8, __builtin_shufflevector(__builtin_shufflevector(t, r, 2, 2, 7, 7), __builtin_shufflevector(s, t, 3, 3, 7, 7), 0, 2, 4, 6));
      }
    for (; p < depth; p++, to += MR) {
      to[0] = x[p * a_column];
      to[1] = y[p * a_column];
      to[2] = z[p * a_column];
    }
  }
}

// Sums of one tile; `add`: to what is in c.
INLINE void tile(const float* a, const float* b, u32 depth, float* c, u32 ldc, bool add) {
  f4 c00 = {}, c01 = {}, c02 = {}, c10 = {}, c11 = {}, c12 = {}, c20 = {}, c21 = {}, c22 = {};
#pragma clang loop unroll_count(2)
  for (u32 p = 0; p < depth; p++, a += MR, b += NR) {
    const f4 b0 = load(b), b1 = load(b + 4), b2 = load(b + 8);
    const f4 a0 = splat(a[0]);
    c00 = madd(a0, b0, c00);
    c01 = madd(a0, b1, c01);
    c02 = madd(a0, b2, c02);
    const f4 a1 = splat(a[1]);
    c10 = madd(a1, b0, c10);
    c11 = madd(a1, b1, c11);
    c12 = madd(a1, b2, c12);
    const f4 a2 = splat(a[2]);
    c20 = madd(a2, b0, c20);
    c21 = madd(a2, b1, c21);
    c22 = madd(a2, b2, c22);
  }
  const auto put = [add](float* at, f4 s0, f4 s1, f4 s2) {
    store(at, add ? load(at) + s0 : s0);
    store(at + 4, add ? load(at + 4) + s1 : s1);
    store(at + 8, add ? load(at + 8) + s2 : s2);
  };
  put(c, c00, c01, c02);
  put(c + ldc, c10, c11, c12);
  put(c + 2 * ldc, c20, c21, c22);
}

// A tile that may stick out of c.
void edge_tile(const float* a, const float* b, u32 depth, float* c, u32 ldc, u32 rows, u32 columns, bool add) {
  float whole[MR * NR];
  tile(a, b, depth, whole, NR, false);
  for (u32 r = 0; r < rows; r++)
    for (u32 j = 0; j < columns; j++) c[r * ldc + j] = add ? c[r * ldc + j] + whole[r * NR + j] : whole[r * NR + j];
}

void gemm_packed(const float* a, u32 a_row, u32 a_column, const Matrix& b, float* c, u32 ldc, u32 m, u32 n, u32 k, bool add) {
  for (u32 j0 = 0; j0 < n; j0 += NC) {
    const u32 columns = min(NC, n - j0), panels = ceil_div(columns, NR);
    for (u32 p0 = 0; p0 < k; p0 += KC) {
      const u32 depth = min(KC, k - p0);
      const bool onto = add || p0 > 0;
      parallel_for(panels, min(8, ceil_div(panels, 4 * team())),
                   [&](u32 panel, u32 end) { pack_panels(packed_b, b, j0, columns, panel, end, p0, depth); });
      // Pieces of rows, so that each is packed once; of columns as well where there are few rows.
      const u32 mc = min(MC, max(LEAST, ceil_div(ceil_div(m, 8 * team()), MR) * MR)), row_blocks = ceil_div(m, mc);
      const u32 group_panels = row_blocks >= 4 * team() ? panels : GROUP, groups = ceil_div(panels, group_panels);
      parallel_for(row_blocks * groups, 1, [&](u32 item, u32 end) {
        alignas(16) float packed_a[MC * KC];
        u32 packed_block = ~0u;
        for (; item < end; item++) {
          const u32 block = item / groups, group = item - block * groups;
          const u32 i0 = block * mc, rows = min(mc, m - i0);
          if (block != packed_block) pack_a(packed_a, a + i0 * a_row + p0 * a_column, a_row, a_column, rows, depth);
          packed_block = block;
          for (u32 panel = group * group_panels; panel < min(panels, (group + 1) * group_panels); panel++) {
            const float* packed = packed_b + panel * NR * depth;
            const u32 j = panel * NR, width = min(NR, columns - j);
            for (u32 i = 0; i < rows; i += MR) {
              float* to = c + (i0 + i) * ldc + j0 + j;
              const u32 height = min(MR, rows - i);
              if (width == NR && height == MR) tile(packed_a + i * depth, packed, depth, to, ldc, onto);
              else edge_tile(packed_a + i * depth, packed, depth, to, ldc, height, width, onto);
            }
          }
        }
      });
    }
  }
}
}  // namespace

#include "few-rows.h"

// bias: 0 for none. accumulate: add to what is in c (then there is no bias).
EXPORT(gemm)(const float* a, u32 a_row, u32 a_column, const void* b, u32 b_row, u32 b_column, u32 b_format, float* c, u32 ldc,
             u32 m, u32 n, u32 k, u32 accumulate, const float* bias) {
  const Matrix right = {b, b_row, b_column, b_format};
  if (k > 0 && bias == nullptr && few_rows(a, a_row, a_column, right, c, ldc, m, n, k, accumulate != 0)) return;
  if (k > 0 && bias != nullptr && few_rows(a, a_row, a_column, right, c, ldc, m, n, k, false)) {
    for (u32 i = 0; i < m; i++)
      for (u32 j = 0; j < n; j++) c[i * ldc + j] += bias[j];
    return;
  }
  if (bias != nullptr || (k == 0 && !accumulate))
    parallel_for(m, max(1, 8192 / max(1, n)), [&](u32 i, u32 end) {
      for (; i < end; i++)
        for (u32 j = 0; j < n; j++) c[i * ldc + j] = bias == nullptr ? 0 : bias[j];
    });
  if (k > 0) gemm_packed(a, a_row, a_column, right, c, ldc, m, n, k, accumulate != 0 || bias != nullptr);
}
