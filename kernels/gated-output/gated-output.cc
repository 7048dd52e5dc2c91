// gatedOutput: out = (y + D x) silu(z). y, x (0), z (0, its rows `z_stride` apart), out [rows, channels]; D [channels] where x is.
#include "common/math.h"
#include "common/parallel.h"

EXPORT(gated_output)(float* out, const float* y, const float* x, const float* D, const float* z, u32 z_stride, u32 rows, u32 channels) {
  parallel_for(rows, max(1, 4096 / max(1, channels)), [&](u32 r, u32 end) {
    for (; r < end; r++)
      for (u32 i = 0; i < channels; i += 4) {
        const u32 lanes = min(4, channels - i), at = r * channels + i;
        f4 v = get(y + at, lanes);
        if (x) v = madd(get(D + i, lanes), get(x + at, lanes), v);
        if (z) v *= silu(get(z + r * z_stride + i, lanes));
        put(out + at, v, lanes);
      }
  });
}

// gy, gx, gz [rows, channels], gD [channels]; 0: not wanted. Four columns run through all rows at a time, for gD's sums.
EXPORT(gated_output_backward)(float* gy, float* gx, float* gz, float* gD, const float* g, const float* y, const float* x,
                              const float* D, const float* z, u32 z_stride, u32 rows, u32 channels) {
  parallel_for(ceil_div(channels, 4), max(1, 2048 / max(1, rows)), [&](u32 item, u32 end) {
    for (; item < end; item++) {
      const u32 i = item * 4, lanes = min(4, channels - i);
      f4 sum = {};
      for (u32 r = 0; r < rows; r++) {
        const u32 at = r * channels + i;
        f4 through = get(g + at, lanes);
        const f4 skip = x ? get(x + at, lanes) : f4{};
        if (z) {
          const f4 gate = get(z + r * z_stride + i, lanes), s = sigmoid(gate);
          f4 whole = get(y + at, lanes);
          if (x) whole = madd(get(D + i, lanes), skip, whole);
          if (gz) put(gz + at, through * whole * silu_gradient(gate, s), lanes);
          through *= gate * s;
        }
        if (gy) put(gy + at, through, lanes);
        if (x) sum = madd(through, skip, sum);
        if (gx) put(gx + at, through * get(D + i, lanes), lanes);
      }
      if (gD) put(gD + i, sum, lanes);
    }
  });
}
