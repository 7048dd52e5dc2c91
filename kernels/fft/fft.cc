// fft: real Fourier transforms of rows, forwards x [rows, n] -> y [rows, n / 2 + 1, 2], or backwards; four rows at a time, a lane each.
// The bins are multiplied by `edge` (0, and n / 2 where n is even) and by `inner` (the others): 1 / n for an inverse, and the weights that
// make one direction the other's gradient. words: the plan's seven (common/fft.h), then rows, inverse, slots, work: for each slot two
// arrays of the plan's room, and one of n / 2 + 1, complex numbers in four lanes each.
#include "common/fft.h"
#include "common/parallel.h"

EXPORT(fft)(float* y, const float* x, const u32* words, float edge, float inner) {
  const RealFft plan = real_fft_of(words);
  const u32 rows = words[7], slots = words[9], bins = plan.bins(), wide = 2 * bins, n = plan.n, room = plan.room();
  const bool inverse = words[8];
  c4* const work = (c4*)words[10];
  const u32 quads = ceil_div(rows, 4);
  plan.prepare(work, work + room);
  const auto factor = [&](u32 k) { return k == 0 || 2 * k == n ? edge : inner; };
  parallel_for(slots, 1, [&](u32 slot, u32 end) {
    for (; slot < end; slot++) {
      c4 *a = work + slot * (2 * room + bins), *b = a + room, *spectrum = b + room;
      for (u32 quad = slot; quad < quads; quad += slots) {
        const u32 first = quad * 4, lanes = min(4, rows - first);
        if (inverse) {
          const float* from = x + first * wide;
          for (u32 k = 0; k < bins; k++) {
            c4 v = {};
            for (u32 r = 0; r < lanes; r++) {
              v.re[r] = from[r * wide + 2 * k];
              v.im[r] = from[r * wide + 2 * k + 1];
            }
            spectrum[k] = scaled(v, factor(k));
          }
          plan.from_bins(spectrum, a);
          const float scale = (float)n / plan.gain();
          plan.unpack(plan.transform(a, b), n, [&](u32 t, f4 v) {
            for (u32 r = 0; r < lanes; r++) y[(first + r) * n + t] = v[r] * scale;
          });
        } else {
          plan.pack(a, n, [&](u32 t) {
            f4 v = {};
            for (u32 r = 0; r < lanes; r++) v[r] = x[(first + r) * n + t];
            return v;
          });
          plan.bins_of(plan.transform(a, b), spectrum);
          float* to = y + first * wide;
          for (u32 k = 0; k < bins; k++) {
            const c4 v = scaled(spectrum[k], factor(k));
            for (u32 r = 0; r < lanes; r++) {
              to[r * wide + 2 * k] = v.re[r];
              to[r * wide + 2 * k + 1] = v.im[r];
            }
          }
        }
      }
    }
  });
}
