// Vectors of four by the compiler's extensions: one source for WASM SIMD and for any processor that the compiler knows.
#pragma once

using u8 = unsigned char;
using i8 = signed char;
using u16 = unsigned short;
using i16 = short;
using u32 = unsigned;
using i32 = int;
using u64 = unsigned long long;

typedef float f4 __attribute__((vector_size(16)));
typedef i32 i4 __attribute__((vector_size(16)));
typedef u32 u4 __attribute__((vector_size(16)));
typedef u16 h4 __attribute__((vector_size(8)));
typedef i16 s8 __attribute__((vector_size(16)));
typedef i8 b4 __attribute__((vector_size(4)));
typedef i8 b8 __attribute__((vector_size(8)));

// Operands are aligned to their elements only.
typedef float f4_at_4 __attribute__((vector_size(16), aligned(4)));
typedef i32 i4_at_4 __attribute__((vector_size(16), aligned(4)));
typedef u16 h4_at_2 __attribute__((vector_size(8), aligned(2)));
typedef u16 u16_at_1 __attribute__((aligned(1)));
typedef i16 s8_at_2 __attribute__((vector_size(16), aligned(2)));
typedef i8 b4_at_1 __attribute__((vector_size(4), aligned(1)));
typedef i8 b8_at_1 __attribute__((vector_size(8), aligned(1)));

// A function that the backend calls. Arguments are addresses and numbers.
#define EXPORT(name) extern "C" __attribute__((export_name(#name), visibility("default"))) void name
#define INLINE static inline __attribute__((always_inline))
// Before a short loop whose arrays are to be registers.
#define ALL_OF _Pragma("clang loop unroll(full)")
// What is read and written of `memory` and what the compiler cannot tell from it stays on its side of this.
#define KEEP_ORDER(memory) asm volatile("" ::"r"(memory) : "memory")
#define INLINE_MEMBER inline __attribute__((always_inline))

INLINE f4 load(const float* p) { return *(const f4_at_4*)p; }
INLINE i4 load(const i32* p) { return *(const i4_at_4*)p; }
INLINE void store(float* p, f4 v) { *(f4_at_4*)p = v; }
INLINE void store(i32* p, i4 v) { *(i4_at_4*)p = v; }
INLINE f4 splat(float x) { return f4{x, x, x, x}; }
INLINE i4 splat(i32 x) { return i4{x, x, x, x}; }

// The first n < 4 lanes; the others are zero, and are not read.
template <class T>
INLINE auto load_part(const T* p, u32 n) {
  decltype(load(p)) v = {};
  if (n > 0) v[0] = p[0];
  if (n > 1) v[1] = p[1];
  if (n > 2) v[2] = p[2];
  return v;
}
template <class T, class V>
INLINE void store_part(T* p, V v, u32 n) {
  if (n > 0) p[0] = v[0];
  if (n > 1) p[1] = v[1];
  if (n > 2) p[2] = v[2];
}

// Up to four lanes.
INLINE f4 get(const float* p, u32 lanes) { return lanes >= 4 ? load(p) : load_part(p, lanes); }
INLINE void put(float* p, f4 v, u32 lanes) {
  if (lanes >= 4) store(p, v);
  else store_part(p, v, lanes);
}

INLINE f4 select(i4 mask, f4 a, f4 b) { return (f4)((mask & (i4)a) | (~mask & (i4)b)); }
// The nearest whole numbers, where they are below 2^22.
INLINE i4 nearest(f4 x) { return (i4)(x + splat(12582912.0f)) - (i4)splat(12582912.0f); }
INLINE i32 largest_of(i4 v) {
  const i32 a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];
  return a > b ? a : b;
}
// Whether every lane of a mask is set.
INLINE bool all(i4 mask) { return (mask[0] & mask[1] & mask[2] & mask[3]) != 0; }
// NaN in `a` stays.
INLINE f4 at_least(f4 a, f4 low) { return a < low ? low : a; }
INLINE f4 at_most(f4 a, f4 high) { return a > high ? high : a; }
INLINE float sum4(f4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
INLINE u32 min(u32 a, u32 b) { return a < b ? a : b; }
INLINE u32 max(u32 a, u32 b) { return a > b ? a : b; }
INLINE u32 ceil_div(u32 a, u32 b) { return a / b + (a % b != 0); }

// a * b + c, rounded once where the processor can.
INLINE f4 madd(f4 a, f4 b, f4 c) {
#ifdef __wasm_relaxed_simd__
  return __builtin_wasm_relaxed_madd_f32x4(a, b, c);
#else
  return a * b + c;
#endif
}

// Eight whole numbers of 16 bits, and of 8.
INLINE s8 load8(const i16* p) { return *(const s8_at_2*)p; }
INLINE void store(i16* p, s8 v) { *(s8_at_2*)p = v; }
INLINE s8 narrow(i4 a, i4 b) { return __builtin_shufflevector((s8)a, (s8)b, 0, 2, 4, 6, 8, 10, 12, 14); }
INLINE s8 widen(const void* bytes) { return __builtin_convertvector(*(const b8_at_1*)bytes, s8); }

// Products of neighbours, added: {a0 b0 + a1 b1, a2 b2 + a3 b3, ...}
INLINE i4 dot_pairs(s8 a, s8 b) {
#ifdef __wasm_simd128__
  return __builtin_wasm_dot_s_i32x4_i16x8(a, b);
#else
  i4 sums;
  for (u32 r = 0; r < 4; r++) sums[r] = a[2 * r] * b[2 * r] + a[2 * r + 1] * b[2 * r + 1];
  return sums;
#endif
}

// Transposes four rows of four.
INLINE void transpose(f4& a, f4& b, f4& c, f4& d) {
  f4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  f4 ef = __builtin_shufflevector(a, b, 2, 6, 3, 7), gh = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  a = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
  b = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
  c = __builtin_shufflevector(ef, gh, 0, 1, 4, 5);
  d = __builtin_shufflevector(ef, gh, 2, 3, 6, 7);
}
