// A few rows of a against all of b, as when one token is decoded: b is streamed once from memory, and nothing is packed.
#pragma once

namespace {
constexpr u32 FEW = 4, COLUMNS_AT_ONCE = 4;

// q8_0: the values of a block times 32 floats, the scale left out.
INLINE f4 q8_dot(const u8* block, const float* x, f4 sum) {
  f4 s0 = {}, s1 = {};
#pragma clang loop unroll(full)
  for (u32 j = 0; j < Q8; j += 8) {
    s0 = madd(q8_values(block, j), load(x + j), s0);
    s1 = madd(q8_values(block, j + 4), load(x + j + 4), s1);
  }
  return madd(splat(q8_scale(block)), s0 + s1, sum);
}

// Products of one row of a with four stored rows of b.
template <u32 format>
INLINE void dots(const float* x, const void* const* rows, u32 k, float* sums) {
  f4 s[4] = {};
  u32 p = 0;
  if constexpr (format == Q8_0) {
    for (; p + Q8 <= k; p += Q8)
      for (u32 r = 0; r < 4; r++) s[r] = q8_dot((const u8*)rows[r] + p / Q8 * Q8_BYTES, x + p, s[r]);
  } else if constexpr (format == BF16) {
    // A lane of 32 bits holds two weights, each of which is a float32 once the other is shifted or masked away.
    f4 t[4] = {};
    for (; p + 8 <= k; p += 8) {
      const f4 x0 = load(x + p), x1 = load(x + p + 4);
      const f4 even = __builtin_shufflevector(x0, x1, 0, 2, 4, 6), odd = __builtin_shufflevector(x0, x1, 1, 3, 5, 7);
      for (u32 r = 0; r < 4; r++) {
        const i4 pairs = load((const i32*)((const u16*)rows[r] + p));
        s[r] = madd((f4)(pairs << 16), even, s[r]);
        t[r] = madd((f4)(pairs & (i32)0xffff0000), odd, t[r]);
      }
    }
    for (u32 r = 0; r < 4; r++) s[r] += t[r];
  } else {
    f4 t[4] = {};
    for (; p + 8 <= k; p += 8) {
      const f4 x0 = load(x + p), x1 = load(x + p + 4);
      for (u32 r = 0; r < 4; r++) {
        s[r] = madd(four<format>(rows[r], p), x0, s[r]);
        t[r] = madd(four<format>(rows[r], p + 4), x1, t[r]);
      }
    }
    for (u32 r = 0; r < 4; r++) s[r] += t[r];
  }
  for (u32 r = 0; r < 4; r++) sums[r] = sum4(s[r]);
  for (; p < k; p++)
    for (u32 r = 0; r < 4; r++) sums[r] += x[p] * one<format>(rows[r], p);
}

// b's columns are stored one after the other.
template <u32 format>
void by_columns(const float* a, u32 a_row, const Matrix& b, float* c, u32 ldc, u32 m, u32 n, u32 k, bool add) {
  parallel_for(ceil_div(n, COLUMNS_AT_ONCE), max(1, 16384 / max(1, k)), [&](u32 item, u32 end) {
    for (; item < end; item++) {
      const u32 j = item * COLUMNS_AT_ONCE;
      const void* rows[4];
      for (u32 r = 0; r < 4; r++) rows[r] = row_at<format>(b.data, min(j + r, n - 1), b.column);
      for (u32 i = 0; i < m; i++) {
        float sums[4];
        dots<format>(a + i * a_row, rows, k, sums);
        for (u32 r = 0; r < 4 && j + r < n; r++) c[i * ldc + j + r] = add ? c[i * ldc + j + r] + sums[r] : sums[r];
      }
    }
  });
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
