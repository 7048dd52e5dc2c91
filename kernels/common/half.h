// The 16-bit formats and q8_0, a lane or four at a time. Rounding is to nearest even; a NaN stays a quiet NaN.
#pragma once
#include "simd.h"

INLINE f4 decode_bf16(h4 words) { return (f4)(__builtin_convertvector(words, u4) << 16); }
INLINE f4 decode_bf16(const u16* p) { return decode_bf16(*(const h4_at_2*)p); }

// f16 without its sign, shifted to where a float has its own. Subnormal floats, which are slow, are made on no way: those of f16 come
// out of a subtraction.
INLINE f4 widen_f16(i4 magnitude) {
  const i4 small = magnitude < 0x00800000, special = magnitude > 0x0f7fffff;
  const f4 value = (f4)(magnitude + 0x38000000 + (small & 0x00800000)) - (f4)(small & 0x38800000);
  return (f4)((i4)value | (special & 0x7f800000));
}
INLINE f4 decode_f16(const u16* p) {
  const i4 h = __builtin_convertvector(*(const h4_at_2*)p, i4);
  return (f4)((i4)widen_f16((h & 0x7fff) << 13) | ((h & 0x8000) << 16));
}

INLINE float decode_f16_one(u16 h) {
  const u32 magnitude = (u32)(h & 0x7fff) << 13, small = magnitude < 0x00800000 ? 0x38800000 : 0;
  const float value = __builtin_bit_cast(float, magnitude + 0x38000000 + (small & 0x00800000)) - __builtin_bit_cast(float, small);
  const u32 bits = __builtin_bit_cast(u32, value);
  return __builtin_bit_cast(float, ((u32)(h & 0x8000) << 16) | bits | ((h & 0x7c00) == 0x7c00 ? 0x7f800000u : 0u));
}

INLINE u16 encode_bf16(float x) {
  const u32 u = __builtin_bit_cast(u32, x);
  if ((u & 0x7fffffff) > 0x7f800000) return (u16)((u >> 16) | 0x40);
  return (u16)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

INLINE u16 encode_f16(float x) {
  const u32 u = __builtin_bit_cast(u32, x), sign = (u >> 16) & 0x8000, magnitude = u & 0x7fffffff;
  if (magnitude > 0x7f800000) return (u16)(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return (u16)(sign | 0x7c00);
  // A float in [0.5, 1) counts in steps of 2^-24, f16's smallest number: adding 0.5 rounds to whole ones.
  if (magnitude < 0x38800000)
    return (u16)(sign | (__builtin_bit_cast(u32, __builtin_bit_cast(float, magnitude) + 0.5f) - 0x3f000000));
  return (u16)(sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13));
}

// llama.cpp's q8_0: an f16 scale and 32 multiples of it.
constexpr u32 Q8 = 32, Q8_BYTES = 34;
INLINE float q8_scale(const u8* block) { return decode_f16_one((u16)(block[0] | block[1] << 8)); }
INLINE f4 q8_values(const u8* block, u32 at) {
  return __builtin_convertvector(__builtin_convertvector(*(const b4_at_1*)(block + 2 + at), i4), f4);
}
