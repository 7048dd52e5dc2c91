// cast: between float32 and every other dtype; other pairs go by way of float32.
// To int32: towards zero. To bf16, f16: nearest even. q8_0: quantize_row_q8_0_ref of llama.cpp, in float32 throughout.
#include "common/half.h"
#include "common/parallel.h"

EXPORT(int_to_float)(float* y, const i32* x, u32 n) {
  parallel_elements(n, [&](u32 i, u32 end) {
    for (; i < end; i++) y[i] = (float)x[i];
  });
}

EXPORT(float_to_int)(i32* y, const float* x, u32 n) {
  parallel_elements(n, [&](u32 i, u32 end) {
    // As JavaScript writes a number into an Int32Array: NaN becomes 0, and what is too large wraps around.
    for (; i < end; i++) {
      const double v = x[i];
      y[i] = v >= -0x1p62 && v <= 0x1p62 ? (i32)(u32)(u64)(long long)v : 0;
    }
  });
}

EXPORT(bf16_to_float)(float* y, const u16* x, u32 n) {
  parallel_elements(n, [&](u32 i, u32 end) {
    for (; i + 4 <= end; i += 4) store(y + i, decode_bf16(x + i));
    for (; i < end; i++) y[i] = __builtin_bit_cast(float, (u32)x[i] << 16);
  });
}

EXPORT(f16_to_float)(float* y, const u16* x, u32 n) {
  parallel_elements(n, [&](u32 i, u32 end) {
    for (; i + 4 <= end; i += 4) store(y + i, decode_f16(x + i));
    for (; i < end; i++) y[i] = decode_f16_one(x[i]);
  });
}

EXPORT(float_to_bf16)(u16* y, const float* x, u32 n) {
  parallel_elements(n, [&](u32 i, u32 end) {
    for (; i < end; i++) y[i] = encode_bf16(x[i]);
  });
}

EXPORT(float_to_f16)(u16* y, const float* x, u32 n) {
  parallel_elements(n, [&](u32 i, u32 end) {
    for (; i < end; i++) y[i] = encode_f16(x[i]);
  });
}

EXPORT(q8_to_float)(float* y, const u8* x, u32 blocks) {
  parallel_for(blocks, 256, [&](u32 b, u32 end) {
    for (; b < end; b++) {
      const u8* block = x + b * Q8_BYTES;
      const f4 scale = splat(q8_scale(block));
      for (u32 j = 0; j < Q8; j += 4) store(y + b * Q8 + j, scale * q8_values(block, j));
    }
  });
}

EXPORT(float_to_q8)(u8* y, const float* x, u32 blocks) {
  parallel_for(blocks, 256, [&](u32 b, u32 end) {
    for (; b < end; b++) {
      const float* values = x + b * Q8;
      u8* block = y + b * Q8_BYTES;
      float largest = 0;
      for (u32 j = 0; j < Q8; j++) {
        const float size = __builtin_fabsf(values[j]);
        largest = size > largest || size != size ? size : largest;
      }
      const float scale = largest / 127.0f, inverse = scale == 0 ? 0 : 1.0f / scale;
      const u16 half = encode_f16(scale);
      block[0] = (u8)half;
      block[1] = (u8)(half >> 8);
      for (u32 j = 0; j < Q8; j++) {
        const float q = values[j] * inverse;
        // Ties away from zero, as C's roundf. Double, so that adding a half does not round.
        block[2 + j] = (u8)(i8)(i32)(q < 0 ? -(double)__builtin_floor(0.5 - (double)q) : __builtin_floor(0.5 + (double)q));
      }
    }
  });
}
