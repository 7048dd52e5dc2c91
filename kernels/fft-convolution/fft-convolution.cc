// fftConvolution: y[b, t, c, h] = sum_s kernel[c, h, (t - s) mod size] u[b, s, h], by transforms of length `size` that never leave the cache:
// four heads at a time, a lane each. u [batch, length, heads] (rows `stride` apart), kernel [channels, heads, taps], y [batch, length,
// channels, heads]. words: the plan's seven (common/fft.h), batch, length, channels, heads, taps, u, stride, kernel, slots, work, spectra.
// spectra: room for the kernels' bins, [channels, heads / 4 rounded up, n / 2 + 1] complex numbers in four lanes each.
#include "common/fft.h"
#include "common/parallel.h"

namespace {
struct Convolution {
  RealFft plan;
  u32 batch, length, channels, heads, taps;
  const float* u;
  u32 stride;
  const float* kernel;
  u32 slots;
  c4 *work, *spectra;

  INLINE_MEMBER u32 quads() const { return ceil_div(heads, 4); }
  INLINE_MEMBER c4* kernel_bins(u32 c, u32 quad) const { return spectra + (c * quads() + quad) * plan.bins(); }

  // Bins of four heads of a sequence, which is `step` wide.
  INLINE_MEMBER void analyse(const float* x, u32 step, u32 lanes, c4* a, c4* b, c4* bins) const {
    if (lanes >= 4)
      plan.pack(a, length, [&](u32 t) { return load(x + t * step); });
    else
      plan.pack(a, length, [&](u32 t) { return load_part(x + t * step, lanes); });
    plan.bins_of(plan.transform(a, b), bins);
  }
  INLINE_MEMBER void synthesise(const c4* bins, float* y, u32 step, u32 lanes, c4* a, c4* b) const {
    plan.from_bins(bins, a);
    const c4* z = plan.transform(a, b);
    const f4 scale = splat(1.0f / plan.gain());
    if (lanes >= 4)
      plan.unpack(z, length, [&](u32 t, f4 v) { store(y + t * step, v * scale); });
    else
      plan.unpack(z, length, [&](u32 t, f4 v) { store_part(y + t * step, v * scale, lanes); });
  }

  void transform_kernels(u32 per_slot) const {
    parallel_for(slots, 1, [&](u32 slot, u32 end) {
      for (; slot < end; slot++) {
        c4 *a = work + slot * per_slot, *b = a + plan.room();
        for (u32 item = slot; item < channels * quads(); item += slots) {
          const u32 c = item / quads(), quad = item % quads(), lanes = min(4, heads - 4 * quad);
          const float* k = kernel + (c * heads + 4 * quad) * taps;
          plan.pack(a, taps, [&](u32 t) {
            f4 v = {};
            for (u32 r = 0; r < lanes; r++) v[r] = k[r * taps + t];
            return v;
          });
          plan.bins_of(plan.transform(a, b), kernel_bins(c, quad));
        }
      }
    });
  }
};

Convolution convolution_of(const u32* w) {
  return {real_fft_of(w), w[7], w[8], w[9], w[10], w[11], (const float*)w[12], w[13], (const float*)w[14], w[15], (c4*)w[16], (c4*)w[17]};
}
}  // namespace

// work: for each slot two arrays of the plan's room and two of its bins.
EXPORT(fft_convolution)(float* y, const u32* words) {
  const Convolution v = convolution_of(words);
  const u32 bins = v.plan.bins(), room = v.plan.room(), per_slot = 2 * room + 2 * bins;
  v.plan.prepare(v.work, v.work + room);
  v.transform_kernels(per_slot);
  const u32 out_step = v.channels * v.heads;
  parallel_for(v.slots, 1, [&](u32 slot, u32 end) {
    for (; slot < end; slot++) {
      c4 *a = v.work + slot * per_slot, *b = a + room, *input = b + room, *output = input + bins;
      for (u32 item = slot; item < v.batch * v.quads(); item += v.slots) {
        const u32 i = item / v.quads(), quad = item % v.quads(), lanes = min(4, v.heads - 4 * quad);
        v.analyse(v.u + i * v.length * v.stride + 4 * quad, v.stride, lanes, a, b, input);
        for (u32 c = 0; c < v.channels; c++) {
          const c4* k = v.kernel_bins(c, quad);
          for (u32 f = 0; f < bins; f++) output[f] = input[f] * k[f];
          v.synthesise(output, y + i * v.length * out_step + c * v.heads + 4 * quad, out_step, lanes, a, b);
        }
      }
    }
  });
}

// gu [batch, length, heads] and gkernel [channels, heads, taps], 0 where not wanted. Four heads run through the whole batch, so that no sums
// are shared. work: for each slot two arrays of the plan's room and 3 + channels of its bins.
EXPORT(fft_convolution_backward)(float* gu, float* gkernel, const float* gy, const u32* words) {
  const Convolution v = convolution_of(words);
  const u32 bins = v.plan.bins(), room = v.plan.room(), per_slot = 2 * room + (3 + v.channels) * bins;
  v.plan.prepare(v.work, v.work + room);
  if (gu) v.transform_kernels(per_slot);
  const u32 out_step = v.channels * v.heads;
  parallel_for(v.slots, 1, [&](u32 slot, u32 end) {
    for (; slot < end; slot++) {
      c4 *a = v.work + slot * per_slot, *b = a + room, *input = b + room, *output = input + bins, *back = output + bins;
      c4* const sums = back + bins;  // [channels, bins]
      for (u32 quad = slot; quad < v.quads(); quad += v.slots) {
        const u32 lanes = min(4, v.heads - 4 * quad);
        for (u32 f = 0; f < v.channels * bins; f++) sums[f] = {};
        for (u32 i = 0; i < v.batch; i++) {
          if (gkernel) v.analyse(v.u + i * v.length * v.stride + 4 * quad, v.stride, lanes, a, b, input);
          for (u32 c = 0; c < v.channels; c++) {
            v.analyse(gy + i * v.length * out_step + c * v.heads + 4 * quad, out_step, lanes, a, b, output);
            if (gkernel)
              for (u32 f = 0; f < bins; f++) sums[c * bins + f] = sums[c * bins + f] + conj(input[f]) * output[f];
            if (!gu) continue;
            const c4* k = v.kernel_bins(c, quad);
            if (c == 0)
              for (u32 f = 0; f < bins; f++) back[f] = conj(k[f]) * output[f];
            else
              for (u32 f = 0; f < bins; f++) back[f] = back[f] + conj(k[f]) * output[f];
          }
          if (gu) v.synthesise(back, gu + i * v.length * v.heads + 4 * quad, v.heads, lanes, a, b);
        }
        for (u32 c = 0; c < v.channels && gkernel; c++) {
          v.plan.from_bins(sums + c * bins, a);
          float* to = gkernel + (c * v.heads + 4 * quad) * v.taps;
          const float scale = 1.0f / v.plan.gain();
          v.plan.unpack(v.plan.transform(a, b), v.taps, [&](u32 t, f4 value) {
            for (u32 r = 0; r < lanes; r++) to[r * v.taps + t] = value[r] * scale;
          });
        }
      }
    }
  });
}
