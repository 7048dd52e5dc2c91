// A few rows of a against all of b, as when one token is decoded: b is streamed once from memory, and nothing is packed.
#pragma once

namespace {
constexpr u32 FEW = 4, DEPTH = 4096;

// The rows of a as products with stored weights want them, DEPTH numbers at a time. bf16: of every eight, those at even places, then
// those at odd ones. q8_0: of every 32 whole numbers of 22 bits, their high parts, then their low parts, and a scale.
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

void prepare_q8(i16* to, float* scale, const float* x, u32 depth) {
  for (u32 p = 0; p < depth; p += Q8, to += 2 * Q8) {
    // As whole numbers sizes are in the same order, and those of infinity and NaN above all others.
    i4 most = {};
    ALL_OF for (u32 j = 0; j < Q8; j += 4) {
      const i4 size = load((const i32*)x + p + j) & 0x7fffffff;
      most = size > most ? size : most;
    }
    const float largest = __builtin_bit_cast(float, largest_of(most));
    const bool finite = largest < __builtin_inff();
    const f4 inverse = splat(finite && largest > 0x1p-100f ? LARGEST / largest : 0);
    scale[p / Q8] = finite ? largest / LARGEST : __builtin_nanf("");
    ALL_OF for (u32 j = 0; j < Q8; j += 8) {
      i4 upper[2], lower[2];
      ALL_OF for (u32 h = 0; h < 2; h++) {
        const i4 v = nearest(load(x + p + j + 4 * h) * inverse);
        upper[h] = (v + (1 << (LOW_BITS - 1))) >> LOW_BITS;
        lower[h] = v - (upper[h] << LOW_BITS);
      }
      store(to + j, narrow(upper[0], upper[1]));
      store(to + Q8 + j, narrow(lower[0], lower[1]));
    }
  }
}

// The value of every f16, for the scales of q8_0: a look-up where decoding would be a quarter of all operations.
float halves[65536];
void know_halves() {
  // 1.0
  if (halves[0x3c00] == 0)
    for (u32 i = 0; i < 65536; i++) halves[i] = decode_f16_one((u16)i);
}

// Half a block of weights times as much of x, but for their scales. Whole numbers do not overflow: 8 products of 7 and 21 bits to a lane.
INLINE i4 q8_half(const u8* weights, const i16* x) {
  const s8 w0 = widen(weights), w1 = widen(weights + 8);
  const i4 high = dot_pairs(w0, load8(x)) + dot_pairs(w1, load8(x + 8));
  const i4 low = dot_pairs(w0, load8(x + Q8)) + dot_pairs(w1, load8(x + Q8 + 8));
  return (high << LOW_BITS) + low;
}

// Sums of the lanes of four vectors.
INLINE f4 sums_of(f4 a, f4 b, f4 c, f4 d) {
  transpose(a, b, c, d);
  return (a + c) + (b + d);
}

// Products of a row of a with four stored rows of b.
template <u32 format>
INLINE void four_dots(const float* x, const float* own, const void* const* rows, u32 depth, float* sums) {
  f4 s[4] = {}, t[4] = {};
  u32 p = 0;
  if constexpr (format == BF16) {
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
  store(sums, sums_of(s[0] + t[0], s[1] + t[1], s[2] + t[2], s[3] + t[3]));
  for (; p < depth; p++)
    for (u32 r = 0; r < 4; r++) sums[r] += x[p] * one<format>(rows[r], p);
}

// How many rows of a weight are read side by side: a processor fetches ahead within a page only, and waits less where several reads are
// under way.
template <u32 format>
constexpr u32 STREAMS = format == Q8_0 ? 16 : 4;
// Of rows shorter than this, where there are many, more are read side by side: each is soon read.
constexpr u32 SHORT = 256, MANY = 1024;

// Products of row i of a with as many stored rows of b, `depth` numbers of each.
template <u32 format, u32 streams>
INLINE void dots(const float* x, u32 i, const void* const* rows, u32 depth, float* sums) {
  const float* own = prepared[i];
  if constexpr (format == Q8_0) {
    const i16* numbers = (const i16*)own;
    alignas(16) float s[STREAMS<Q8_0>][4] = {};
    alignas(16) i32 first[4][4];
    for (u32 p = 0, at = 0; p < depth; p += Q8, at += Q8_BYTES, numbers += 2 * Q8)
      ALL_OF for (u32 r = 0; r < STREAMS<Q8_0>; r += 4) {
        // Four halves of blocks, that share what they read of x; there are no registers for more at a time.
        const u8* blocks[4];
        ALL_OF for (u32 q = 0; q < 4; q++) {
          blocks[q] = (const u8*)rows[r + q] + at;
          store(first[q], q8_half(blocks[q] + 2, numbers));
        }
        KEEP_ORDER(first);
        ALL_OF for (u32 q = 0; q < 4; q++) {
          const i4 all = q8_half(blocks[q] + 18, numbers + 16) + load(first[q]);
          const f4 scale = splat(halves[*(const u16_at_1*)blocks[q]] * scales[i][p / Q8]);
          store(s[r + q], madd(__builtin_convertvector(all, f4), scale, load(s[r + q])));
        }
        KEEP_ORDER(s);
      }
    ALL_OF for (u32 r = 0; r < STREAMS<Q8_0>; r += 4)
      store(sums + r, sums_of(load(s[r]), load(s[r + 1]), load(s[r + 2]), load(s[r + 3])));
    return;
  }
  for (u32 g = 0; g < streams; g += 4) four_dots<format>(x, own, rows + g, depth, sums + g);
}

// Bytes of `depth` numbers of a stored row.
template <u32 format>
INLINE u32 bytes_of(u32 depth) {
  return format == FLOAT32 ? 4 * depth : format == Q8_0 ? ceil_div(depth, Q8) * Q8_BYTES : 2 * depth;
}

// b's columns are stored one after the other; several are read at a time, from places far apart.
template <u32 format, u32 streams = STREAMS<format>>
void by_columns(const float* a, u32 a_row, const Matrix& b, float* c, u32 ldc, u32 m, u32 n, u32 k, bool add) {
  const u32 apart = ceil_div(n, streams);
  if (format == Q8_0) know_halves();
  for (u32 p0 = 0; p0 < k; p0 += DEPTH) {
    const u32 depth = min(DEPTH, k - p0);
    const bool onto = add || p0 > 0;
    for (u32 i = 0; i < m; i++) {
      if (format == BF16) prepare_bf16(prepared[i], a + i * a_row + p0, depth);
      if (format == Q8_0) prepare_q8((i16*)prepared[i], scales[i], a + i * a_row + p0, depth);
    }
    // Pieces of as many pages of each stream as leave several for every thread: each begins without what a processor has fetched ahead.
    const u32 row = bytes_of<format>(depth), most = ceil_div(min(65536, max(8192, apart * row / 16)), row);
    const u32 grain = min(most, ceil_div(apart, 4));
    parallel_for(apart, grain, [&](u32 j, u32 end) {
      for (; j < end; j++) {
        const void* rows[streams];
        for (u32 r = 0; r < streams; r++)
          rows[r] = at<format>(row_at<format>(b.data, min(j + r * apart, n - 1), b.column), p0);
        for (u32 i = 0; i < m; i++) {
          float sums[streams];
          dots<format, streams>(a + i * a_row + p0, i, rows, depth, sums);
          for (u32 r = 0; r < streams; r++) {
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
  else if (k < SHORT && n >= MANY) by_columns<FLOAT32, 16>(a, a_row, b, c, ldc, m, n, k, add);
  else by_columns<FLOAT32>(a, a_row, b, c, ldc, m, n, k, add);
  return true;
}
}  // namespace
