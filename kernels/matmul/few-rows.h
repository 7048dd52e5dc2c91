// A few rows of a against all of b, as when one token is decoded: b is streamed once from memory, and nothing is packed.
#pragma once

namespace {
constexpr u32 FEW = 4, DEPTH = 4096;

// The rows of a as products with stored weights want them, DEPTH numbers at a time. bf16: of every eight, those at even places, then
// those at odd ones. q8_0: whole numbers of 22 bits and a scale for every 32 of them, high and low parts apart.
alignas(64) float prepared[FEW][DEPTH];
float scales[FEW][DEPTH / Q8];
constexpr u32 LOW_BITS = 8;
constexpr float LARGEST = 2097151.0f;

void prepare_bf16(float* to, const float* x, u32 depth) {
  for (u32 p = 0; p + 8 <= depth; p += 8) {
    const f4 x0 = load(x + p), x1 = load(x + p + 4);
    store(to + p, __builtin_shufflevector(x0, x1, 0, 2, 4, 6));
    store(to + p + 4, __builtin_shufflevector(x0, x1, 1, 3, 5, 7));
  }
}

void prepare_q8(i16* high, i16* low, float* scale, const float* x, u32 depth) {
  for (u32 p = 0; p < depth; p += Q8) {
    float largest = 0;
    for (u32 j = 0; j < Q8; j++) {
      const float size = __builtin_fabsf(x[p + j]);
      // NaN counts as more than all.
      if (!(size <= largest)) largest = size;
    }
    const bool finite = largest < __builtin_inff();
    const float inverse = finite && largest > 0x1p-100f ? LARGEST / largest : 0;
    scale[p / Q8] = finite ? largest / LARGEST : __builtin_nanf("");
    for (u32 j = 0; j < Q8; j++) {
      const float y = finite ? x[p + j] * inverse : 0;
      const i32 v = (i32)(y < 0 ? y - 0.5f : y + 0.5f), upper = (v + (1 << (LOW_BITS - 1))) >> LOW_BITS;
      high[p + j] = (i16)upper;
      low[p + j] = (i16)(v - (upper << LOW_BITS));
    }
  }
}

// Products of row i of a with four stored rows of b, `depth` numbers of each, added to sums.
template <u32 format>
INLINE void dots(const float* x, u32 i, const void* const* rows, u32 depth, float* sums) {
  const float* own = prepared[i];
  f4 s[4] = {}, t[4] = {};
  u32 p = 0;
  if constexpr (format == Q8_0) {
    const i16 *high = (const i16*)own, *low = high + DEPTH;
    const u8* blocks[4];
    ALL_OF for (u32 r = 0; r < 4; r++) blocks[r] = (const u8*)rows[r];
    for (; p < depth; p += Q8) {
      // Whole numbers do not overflow: 8 products of 7 and 21 bits to a lane.
      i4 h[4] = {}, l[4] = {};
      ALL_OF for (u32 j = 0; j < Q8; j += 8) {
        const s8 x_high = load8(high + p + j), x_low = load8(low + p + j);
        ALL_OF for (u32 r = 0; r < 4; r++) {
          const s8 w = widen(blocks[r] + 2 + j);
          h[r] += dot_pairs(w, x_high);
          l[r] += dot_pairs(w, x_low);
        }
      }
      const f4 scale = q8_scales(blocks) * splat(scales[i][p / Q8]);
      ALL_OF for (u32 r = 0; r < 4; r++) {
        s[r] = madd(__builtin_convertvector((h[r] << LOW_BITS) + l[r], f4), splat(scale[r]), s[r]);
        blocks[r] += Q8_BYTES;
      }
    }
  } else if constexpr (format == BF16) {
    // A lane of 32 bits holds two weights, each of which is a float32 once the other is shifted or masked away.
    for (; p + 8 <= depth; p += 8) {
      const f4 even = load(own + p), odd = load(own + p + 4);
      ALL_OF for (u32 r = 0; r < 4; r++) {
        const i4 pairs = load((const i32*)((const u16*)rows[r] + p));
        s[r] = madd((f4)(pairs << 16), even, s[r]);
        t[r] = madd((f4)(pairs & (i32)0xffff0000), odd, t[r]);
      }
    }
  } else
    for (; p + 8 <= depth; p += 8) {
      const f4 x0 = load(x + p), x1 = load(x + p + 4);
      ALL_OF for (u32 r = 0; r < 4; r++) {
        s[r] = madd(four<format>(rows[r], p), x0, s[r]);
        t[r] = madd(four<format>(rows[r], p + 4), x1, t[r]);
      }
    }
  ALL_OF for (u32 r = 0; r < 4; r++) sums[r] = sum4(s[r] + t[r]);
  for (; p < depth; p++)
    ALL_OF for (u32 r = 0; r < 4; r++) sums[r] += x[p] * one<format>(rows[r], p);
}

// b's columns are stored one after the other. Four are read at a time, from four places far apart: a processor fetches ahead within a
// page only, and waits less where several are under way.
template <u32 format>
void by_columns(const float* a, u32 a_row, const Matrix& b, float* c, u32 ldc, u32 m, u32 n, u32 k, bool add) {
  const u32 apart = ceil_div(n, 4);
  for (u32 p0 = 0; p0 < k; p0 += DEPTH) {
    const u32 depth = min(DEPTH, k - p0);
    const bool onto = add || p0 > 0;
    for (u32 i = 0; i < m; i++) {
      if (format == BF16) prepare_bf16(prepared[i], a + i * a_row + p0, depth);
      if (format == Q8_0) prepare_q8((i16*)prepared[i], (i16*)prepared[i] + DEPTH, scales[i], a + i * a_row + p0, depth);
    }
    parallel_for(apart, max(1, 16384 / max(1, k)), [&](u32 j, u32 end) {
      for (; j < end; j++) {
        const void* rows[4];
        for (u32 r = 0; r < 4; r++)
          rows[r] = at<format>(row_at<format>(b.data, min(j + r * apart, n - 1), b.column), p0);
        for (u32 i = 0; i < m; i++) {
          float sums[4];
          dots<format>(a + i * a_row + p0, i, rows, depth, sums);
          for (u32 r = 0; r < 4; r++) {
            const u32 column = j + r * apart;
            if (column < n) c[i * ldc + column] = onto ? c[i * ldc + column] + sums[r] : sums[r];
          }
        }
      }
    });
  }
}

// b's rows are stored one after the other: sums of 32 columns at a time.
void by_rows(const float* a, u32 a_row, u32 a_column, const Matrix& b, float* c, u32 ldc, u32 m, u32 n, u32 k, bool add) {
  constexpr u32 WIDTH = 32;
  parallel_for(ceil_div(n, WIDTH), max(1, 65536 / max(1, k * WIDTH)), [&](u32 item, u32 end) {
    for (; item < end; item++) {
      const u32 j = item * WIDTH, width = min(WIDTH, n - j);
      const float* from = (const float*)b.data + j;
      for (u32 i = 0; i < m; i++) {
        float* to = c + i * ldc + j;
        if (width == WIDTH) {
          f4 s[8] = {};
          for (u32 p = 0; p < k; p++) {
            const f4 x = splat(a[i * a_row + p * a_column]);
            for (u32 v = 0; v < 8; v++) s[v] = madd(x, load(from + p * b.row + 4 * v), s[v]);
          }
          for (u32 v = 0; v < 8; v++) store(to + 4 * v, add ? load(to + 4 * v) + s[v] : s[v]);
        } else
          for (u32 r = 0; r < width; r++) {
            float sum = 0;
            for (u32 p = 0; p < k; p++) sum += a[i * a_row + p * a_column] * from[p * b.row + r];
            to[r] = add ? to[r] + sum : sum;
          }
      }
    }
  });
}

// False if this is no case for it.
bool few_rows(const float* a, u32 a_row, u32 a_column, const Matrix& b, float* c, u32 ldc, u32 m, u32 n, u32 k, bool add) {
  if (m > FEW) return false;
  if (b.format == FLOAT32 && b.column == 1) {
    by_rows(a, a_row, a_column, b, c, ldc, m, n, k, add);
    return true;
  }
  if (b.row != 1 || (a_column != 1 && k > 1)) return false;
  if (b.format == BF16) by_columns<BF16>(a, a_row, b, c, ldc, m, n, k, add);
  else if (b.format == F16) by_columns<F16>(a, a_row, b, c, ldc, m, n, k, add);
  else if (b.format == Q8_0) by_columns<Q8_0>(a, a_row, b, c, ldc, m, n, k, add);
  else by_columns<FLOAT32>(a, a_row, b, c, ldc, m, n, k, add);
  return true;
}
}  // namespace
