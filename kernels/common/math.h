// Elementary functions on four lanes, and the scalar ones of the C library.
#pragma once
#include "simd.h"

extern "C" {
float logf(float);
float sinf(float);
float cosf(float);
float tanhf(float);
float powf(float, float);
double exp(double);
double log(double);
double cos(double);
double sin(double);
}

constexpr float LOG2E = 1.44269504088896341f;
// Adding it leaves the nearest integer in the low bits.
constexpr float ROUNDER = 12582912.0f;

// 2^f on [-1/2, 1/2]: minimax of degree 6, within 1.5 ulp. In pairs, since a chain of dependent steps is what a processor waits for.
INLINE f4 exp2_fraction(f4 f) {
  const f4 f2 = f * f;
  f4 p = madd(f2, splat(0.000153458066f), madd(f, splat(0.00133999344f), splat(0.00961848907f)));
  p = madd(f2, p, madd(f, splat(0.0555032864f), splat(0.240226462f)));
  return madd(f2, p, madd(f, splat(0.693147182f), splat(1.0f)));
}

// 2^y within 2 ulp for -126 <= y < 128.
INLINE f4 exp2_between(f4 y) {
  // Opaque, or the compiler would keep its negative as one constant more: there are no registers left for it.
  f4 rounder = splat(ROUNDER);
  asm("" : "+r"(rounder));
  f4 rounded = y + rounder;
  f4 p = exp2_fraction(y - (rounded - rounder));
  return (f4)((i4)p + ((i4)rounded << 23));
}

// 2^y for y <= 128, within 2 ulp; what is below 2^-126 counts as 2^-126. 2^128 is infinity.
INLINE f4 exp2_normal(f4 y) { return exp2_between(at_least(y, splat(-126.0f))); }

// e^r for |r| <= ln(2) / 2.
INLINE f4 exp_fraction(f4 r) {
  const f4 r2 = r * r;
  f4 p = madd(r, splat(1.9875691500e-4f), splat(1.3981999507e-3f));
  p = madd(r2, p, madd(r, splat(8.3334519073e-3f), splat(4.1665795894e-2f)));
  p = madd(r2, p, madd(r, splat(1.6666665459e-1f), splat(5.0000001201e-1f)));
  return madd(r2, p, r) + splat(1.0f);
}

// e^x within 2 ulp wherever the result is normal, correctly to the last subnormal or two below.
INLINE f4 exp(f4 x) {
  f4 y = at_most(at_least(x, splat(-110.0f)), splat(89.0f));
  f4 rounded = madd(y, splat(LOG2E), splat(ROUNDER));
  f4 n = rounded - splat(ROUNDER);
  // ln 2 in two parts: the product with the first is exact.
  f4 r = y - n * splat(0.693359375f) - n * splat(-2.12194440e-4f);
  f4 p = exp_fraction(r);
  // In two steps, so that neither leaves the range before the result does.
  i4 k = (i4)rounded - (i4)splat(ROUNDER);
  i4 half = k >> 1;
  f4 first = (f4)((half + 127) << 23), second = (f4)((k - half + 127) << 23);
  return p * first * second;
}

// Within 1.8e-7: erf(x) = x p(x^2) up to 1, 1 - exp(-q(x)) beyond, by least squares at Chebyshev points.
INLINE f4 erf(f4 x) {
  f4 s = x * x;
  f4 p = splat(7.88249712e-05f);
  p = madd(p, s, splat(-0.0008018855f));
  p = madd(p, s, splat(0.00518931194f));
  p = madd(p, s, splat(-0.0268543288f));
  p = madd(p, s, splat(0.112835975f));
  p = madd(p, s, splat(-0.376126269f));
  p = madd(p, s, splat(1.12837917f));
  f4 size = (f4)((i4)x & 0x7fffffff), t = at_most(size, splat(4.0f));
  f4 q = splat(-0.00014271857f);
  q = madd(q, t, splat(0.00252289645f));
  q = madd(q, t, splat(-0.0201858605f));
  q = madd(q, t, splat(0.0998075696f));
  q = madd(q, t, splat(0.641721184f));
  q = madd(q, t, splat(1.12508917f));
  q = madd(q, t, splat(0.000793230267f));
  f4 far = splat(1.0f) - exp(-q);
  far = (f4)((i4)far | ((i4)x & (i4)splat(-0.0f)));
  return select(size > splat(1.0f), far, x * p);
}

// e^-|x|, as `exp`, in fewer steps.
INLINE f4 exp_of_minus(f4 x) {
  // Opaque, or the compiler would negate the absolute value: V8 makes the masks of both anew each time.
  i4 sign = (i4)splat(-0.0f);
  asm("" : "+r"(sign));
  f4 y = at_least((f4)((i4)x | sign), splat(-110.0f));
  f4 rounded = madd(y, splat(LOG2E), splat(ROUNDER));
  f4 n = rounded - splat(ROUNDER);
  f4 r = y - n * splat(0.693359375f) - n * splat(-2.12194440e-4f);
  // 2^64 too much, which is taken back where the result may leave the normal numbers.
  f4 scale = (f4)(((i4)rounded << 23) + ((64 + 127) << 23));
  return exp_fraction(r) * scale * splat(0x1p-64f);
}

// Of e = e^-|x|: what is left of a sigmoid.
INLINE f4 sigmoid_from(f4 x, f4 e) {
  f4 s = splat(1.0f) / (splat(1.0f) + e);
  return x < splat(0.0f) ? e * s : s;
}
INLINE f4 sigmoid(f4 x) { return sigmoid_from(x, exp_of_minus(x)); }

INLINE f4 silu(f4 x) { return x * sigmoid(x); }

// d silu(x) / dx, given sigmoid(x).
INLINE f4 silu_gradient(f4 x, f4 s) { return s * (splat(1.0f) + x * (splat(1.0f) - s)); }

// log(1 + e^x): max(x, 0) + log1p(w) for w = e^-|x|, with log1p(w) = 2 atanh(w / (2 + w)). Above 20 what is added is lost, and NaN stays.
// 2 atanh(s) / s as a polynomial in s^2 <= 1/9: minimax of degree 4, relative error 4.5e-9.
INLINE f4 softplus_from(f4 x, f4 w) {
  f4 s = w / (w + splat(2.0f)), q = s * s;
  f4 p = madd(q, madd(q, splat(0.28006768f), splat(0.28003028f)), splat(0.40021437f));
  p = madd(q * q, p, madd(q, splat(0.6666642f), splat(2.0f)));
  return (x > splat(0.0f) ? x : splat(0.0f)) + p * s;
}
INLINE f4 softplus(f4 x) { return softplus_from(x, exp_of_minus(x)); }

// d softplus(x) / dx
INLINE f4 softplus_gradient(f4 x) { return x > splat(20.0f) ? splat(1.0f) : sigmoid(x); }
