// Fourier transforms of four signals at once, a lane each: complex ones of any length, and what makes a real one of even length n out of a
// complex one of half of it. Stockham's self-sorting passes for products of 2, 3, 5 and 7, Bluestein's convolution for the rest.
#pragma once
#include "simd.h"

struct c4 {
  f4 re, im;
};
INLINE c4 operator+(c4 a, c4 b) { return {a.re + b.re, a.im + b.im}; }
INLINE c4 operator-(c4 a, c4 b) { return {a.re - b.re, a.im - b.im}; }
INLINE c4 operator*(c4 a, c4 b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }
INLINE c4 scaled(c4 a, float s) { return {a.re * splat(s), a.im * splat(s)}; }
INLINE c4 conj(c4 a) { return {a.re, -a.im}; }
INLINE c4 times_i(c4 a) { return {-a.im, a.re}; }
INLINE c4 swapped(c4 a) { return {a.im, a.re}; }
// By the same complex number in every lane.
INLINE c4 rotated(c4 a, const float* w) {
  const f4 c = splat(w[0]), s = splat(w[1]);
  return {a.re * c - a.im * s, a.re * s + a.im * c};
}

namespace fft_passes {
// One pass: transforms of length `radix` among what lies `m` strides apart. roots[k step]: exp(-2 pi i k / (radix m)), parts interleaved.
template <u32 R, class Butterfly>
INLINE void pass(u32 m, u32 s, const float* roots, u32 step, const c4* x, c4* y, const Butterfly& butterfly) {
  for (u32 p = 0; p < m; p++) {
    const float* w[R];
    for (u32 j = 1; j < R; j++) w[j] = roots + 2 * (j * p * step);
    const c4* from = x + s * p;
    c4* to = y + s * R * p;
    if (p == 0)
      for (u32 q = 0; q < s; q++) butterfly(from + q, s * m, [&](u32 j, c4 v) { to[q + s * j] = v; });
    else
      for (u32 q = 0; q < s; q++)
        butterfly(from + q, s * m, [&](u32 j, c4 v) { to[q + s * j] = j == 0 ? v : rotated(v, w[j]); });
  }
}

constexpr float SIN_3 = 0.866025403784438647f;
constexpr float COS_5 = 0.309016994374947424f, COS_5_2 = -0.809016994374947424f;
constexpr float SIN_5 = 0.951056516295153572f, SIN_5_2 = 0.587785252292473129f;

INLINE void two(u32 m, u32 s, const float* roots, u32 step, const c4* x, c4* y) {
  pass<2>(m, s, roots, step, x, y, [](const c4* a, u32 jump, const auto& put) {
    put(0, a[0] + a[jump]);
    put(1, a[0] - a[jump]);
  });
}
INLINE void three(u32 m, u32 s, const float* roots, u32 step, const c4* x, c4* y) {
  pass<3>(m, s, roots, step, x, y, [](const c4* a, u32 jump, const auto& put) {
    const c4 sum = a[jump] + a[2 * jump], apart = scaled(a[jump] - a[2 * jump], SIN_3);
    const c4 middle = a[0] - scaled(sum, 0.5f);
    put(0, a[0] + sum);
    put(1, middle - times_i(apart));
    put(2, middle + times_i(apart));
  });
}
INLINE void four(u32 m, u32 s, const float* roots, u32 step, const c4* x, c4* y) {
  pass<4>(m, s, roots, step, x, y, [](const c4* a, u32 jump, const auto& put) {
    const c4 even = a[0] + a[2 * jump], odd = a[jump] + a[3 * jump];
    const c4 apart = a[0] - a[2 * jump], turned = times_i(a[jump] - a[3 * jump]);
    put(0, even + odd);
    put(1, apart - turned);
    put(2, even - odd);
    put(3, apart + turned);
  });
}
INLINE void five(u32 m, u32 s, const float* roots, u32 step, const c4* x, c4* y) {
  pass<5>(m, s, roots, step, x, y, [](const c4* a, u32 jump, const auto& put) {
    const c4 b = a[jump] + a[4 * jump], c = a[2 * jump] + a[3 * jump];
    const c4 d = a[jump] - a[4 * jump], e = a[2 * jump] - a[3 * jump];
    const c4 first = a[0] + scaled(b, COS_5) + scaled(c, COS_5_2), second = a[0] + scaled(b, COS_5_2) + scaled(c, COS_5);
    const c4 f = times_i(scaled(d, SIN_5) + scaled(e, SIN_5_2)), g = times_i(scaled(d, SIN_5_2) - scaled(e, SIN_5));
    put(0, a[0] + b + c);
    put(1, first - f);
    put(2, second - g);
    put(3, second + g);
    put(4, first + f);
  });
}
INLINE void seven(u32 m, u32 s, const float* roots, u32 step, const c4* x, c4* y) {
  pass<7>(m, s, roots, step, x, y, [&](const c4* a, u32 jump, const auto& put) {
    for (u32 j = 0; j < 7; j++) {
      c4 sum = a[0];
      for (u32 k = 1; k < 7; k++) sum = sum + rotated(a[k * jump], roots + 2 * ((j * k) % 7 * m * step));
      put(j, sum);
    }
  });
}

// A length without other factors than 2, 3, 5 and 7. Transforms a, with b as room; returns the one that holds the result.
static c4* smooth(u32 n, const float* roots, u32 step, c4* a, c4* b) {
  u32 s = 1;
  for (u32 rest = n; rest > 1;) {
    const u32 radix = rest % 4 == 0 ? 4 : rest % 2 == 0 ? 2 : rest % 3 == 0 ? 3 : rest % 5 == 0 ? 5 : 7;
    const u32 m = rest / radix;
    if (radix == 4) four(m, s, roots, s * step, a, b);
    else if (radix == 2) two(m, s, roots, s * step, a, b);
    else if (radix == 3) three(m, s, roots, s * step, a, b);
    else if (radix == 5) five(m, s, roots, s * step, a, b);
    else seven(m, s, roots, s * step, a, b);
    c4* const t = a;
    a = b;
    b = t;
    s *= radix;
    rest = m;
  }
  return a;
}
}  // namespace fft_passes

// What a real transform of length n needs: a complex one of `length` = n / 2, or of n where n is odd.
struct RealFft {
  u32 n, length;
  // 0, or the length of Bluestein's convolution, at least 2 length - 1.
  u32 padded;
  // exp(-2 pi i k / n), k < n; parts interleaved.
  const float* roots;
  // Of Bluestein: exp(-pi i k^2 / length), k < length; exp(-2 pi i k / padded), k < padded; and room for `padded` complex numbers: the
  // transform of the chirp's conjugate, which `prepare` writes.
  const float *chirp, *padded_roots;
  float* spectrum;

  INLINE_MEMBER bool halved() const { return length != n; }
  INLINE_MEMBER u32 bins() const { return n / 2 + 1; }
  // Complex numbers in each of the two work arrays.
  INLINE_MEMBER u32 room() const { return padded ? padded : length; }

  void prepare(c4* a, c4* b) const {
    if (!padded) return;
    for (u32 k = 0; k < padded; k++) {
      const u32 back = padded - k, j = k < length ? k : back;
      a[k] = j < length ? c4{splat(chirp[2 * j]), splat(-chirp[2 * j + 1])} : c4{};
    }
    const c4* y = fft_passes::smooth(padded, padded_roots, 1, a, b);
    for (u32 k = 0; k < padded; k++) {
      spectrum[2 * k] = y[k].re[0];
      spectrum[2 * k + 1] = y[k].im[0];
    }
  }

  // Transforms a[0 … length - 1], with b as room; returns the one that holds the result.
  c4* transform(c4* a, c4* b) const {
    if (!padded) return fft_passes::smooth(length, roots, n / length, a, b);
    for (u32 k = 0; k < length; k++) a[k] = rotated(a[k], chirp + 2 * k);
    for (u32 k = length; k < padded; k++) a[k] = {};
    c4* y = fft_passes::smooth(padded, padded_roots, 1, a, b);
    c4* room = y == a ? b : a;
    // The inverse transform, by parts swapped.
    for (u32 k = 0; k < padded; k++) y[k] = swapped(rotated(y[k], spectrum + 2 * k));
    c4* z = fft_passes::smooth(padded, padded_roots, 1, y, room);
    const float scale = 1.0f / (float)padded;
    for (u32 k = 0; k < length; k++) z[k] = scaled(rotated(swapped(z[k]), chirp + 2 * k), scale);
    return z;
  }

  // From the complex transform to the real signal's bins 0 … n / 2. With even samples as real and odd ones as imaginary parts, z holds the
  // transforms of both, E + i O, and bin k is E[k] + exp(-2 pi i k / n) O[k].
  void bins_of(const c4* z, c4* x) const {
    if (!halved()) {
      for (u32 k = 0; k < bins(); k++) x[k] = z[k];
      return;
    }
    for (u32 k = 0; 2 * k <= length; k++) {
      const u32 other = length - k;
      const c4 a = z[k], b = conj(z[k == 0 ? 0 : other]);
      const c4 even = scaled(a + b, 0.5f), odd = rotated(times_i(scaled(b - a, 0.5f)), roots + 2 * k);
      x[k] = even + odd;
      x[other] = conj(even - odd);
    }
  }

  // The reverse, ready to be transformed: parts swapped, which makes a forward transform an inverse one. Imaginary parts of the real bins
  // do not count.
  void from_bins(const c4* x, c4* z) const {
    if (!halved()) {
      z[0] = {f4{}, x[0].re};
      for (u32 k = 1; k < bins(); k++) {
        z[k] = swapped(x[k]);
        z[n - k] = swapped(conj(x[k]));
      }
      return;
    }
    for (u32 k = 0; 2 * k <= length; k++) {
      const u32 other = length - k;
      c4 a = x[k], b = conj(x[other]);
      if (k == 0) a.im = b.im = f4{};
      const float turn[2] = {roots[2 * k], -roots[2 * k + 1]};
      const c4 even = scaled(a + b, 0.5f), odd = times_i(rotated(scaled(a - b, 0.5f), turn));
      z[k] = swapped(even + odd);
      if (k != 0) z[other] = swapped(conj(even - odd));
    }
  }

  // Runs set(place, sample index) for all of a signal: sample t of a real one lies in z[t / 2] where n is even.
  template <class F>
  INLINE_MEMBER void pack(c4* z, u32 count, const F& sample) const {
    for (u32 k = 0; k < length; k++) {
      const u32 t = halved() ? 2 * k : k;
      z[k].re = t < count ? sample(t) : f4{};
      z[k].im = halved() && t + 1 < count ? sample(t + 1) : f4{};
    }
  }
  // The first `count` samples of a signal whose bins were transformed back, times n (n / 2 where n is even).
  template <class F>
  INLINE_MEMBER void unpack(const c4* z, u32 count, const F& put) const {
    if (!halved())
      for (u32 t = 0; t < count; t++) put(t, z[t].im);
    else
      for (u32 t = 0; t < count; t++) put(t, t % 2 ? z[t / 2].re : z[t / 2].im);
  }
  // What a transform there and back multiplies by.
  INLINE_MEMBER float gain() const { return (float)length; }
};

INLINE RealFft real_fft_of(const u32* w) {
  return {w[0], w[1], w[2], (const float*)w[3], (const float*)w[4], (const float*)w[5], (float*)w[6]};
}
