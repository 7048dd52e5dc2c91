// The products of a block's step for many sequences, by tiles that the copy engine brings (common/tiles.cuh): in_proj with the convolution, x_proj, out_proj.
#include "../common/tiles.cuh"
#include "mamba_step.cuh"

template <class W> struct alignas(8) FourHalves {
  W values[4];
};
template <class W> __device__ __forceinline__ FourHalves<W> narrowFour(float4 v) { return {narrow<W>(v.x), narrow<W>(v.y), narrow<W>(v.z), narrow<W>(v.w)}; }

// What the convolution keeps of four channels.
struct Past {
  float4 of[3];
};
constexpr int OUT_COLUMNS = 32;
// What the step of one layer leaves for the RMS norm of the next: the stream times that norm's weight in W, and the sums of its squares in each of
// out_proj's tiles, [batch, dModel / OUT_COLUMNS]. The norm's scale comes behind in_proj's product.
struct NextNorm {
  const float* weight;
  void* normed;
  float* squares;
};
struct TiledStep {
  Step step;
  i64 stages;
  // Of in_proj: null where the stream is normed. Of out_proj: none where `weight` is null.
  const float* squares;
  NextNorm next;
  Tiling tiling;
};

// Half of a tile's columns are the convolution's input, half the gate of the same channels.
template <class W, int COLUMNS> __device__ __forceinline__ void inProjectTiles(const TiledStep& t) {
  const Step& s = t.step;
  constexpr int CHANNELS = COLUMNS / 2;
  // The convolution's weights by tap, its bias last.
  __shared__ __align__(16) float taps[5][CHANNELS];
  __shared__ float scales[TILE_ROWS];
  const int kept = (int)s.dConv - 1, m0 = blockIdx.y * TILE_ROWS;
  int n0 = 0;
  if (!t.squares) letNext();
  tiles<W, COLUMNS, true, false>(t.tiling, (int)t.stages, (int)s.batch, (int)s.dInner, (int)s.dModel,
      [&](int from) {
        n0 = from;
        for (int i = threadIdx.x; i < 5 * CHANNELS; i += TILE_WORKERS) {
          const int k = i / CHANNELS, c = n0 + i % CHANNELS;
          const bool isThere = c < s.dInner && (k == 4 ? s.convBias != nullptr : k <= kept);
          taps[k][i % CHANNELS] = isThere ? k == 4 ? s.convBias[c] : s.convWeight[(i64)c * (kept + 1) + k] : 0.0f;
        }
      },
      [&](int b, int c) {
        Past past{};
        if (c < s.dInner)
#pragma unroll
          for (int k = 0; k < 3; k++)
            if (k < kept) past.of[k] = fourOf(s.convIn + ((i64)b * kept + k) * s.dInner + c);
        return past;
      },
      [&] {
        if (!t.squares) return;
        // The step's first kernel ends the chain.
        awaitPrevious();
        letNext();
        const int row = threadIdx.x / 4, b = m0 + row, of = (int)s.dModel / OUT_COLUMNS;
        float sum = 0;
        if (b < s.batch)
          for (int i = threadIdx.x % 4; i < of; i += 4) sum += t.squares[b * of + i];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        if (threadIdx.x % 4 == 0) scales[row] = rsqrtf(sum / (int)s.dModel + (float)s.normEps);
      },
      [&](int b, int c, float4 v, const Past& past) {
        if (t.squares) {
          const float scale = scales[b - m0];
          v.x *= scale, v.y *= scale, v.z *= scale, v.w *= scale;
        }
        if (s.inBias) addTo(v, fourOf(s.inBias + c));
        if (c >= s.dInner) {
          *(float4*)(s.z + b * s.dInner + c - s.dInner) = v;
          return;
        }
        float4 u = fourOf(&taps[4][c - n0]);
#pragma unroll
        for (int k = 0; k < 4; k++)
          if (k <= kept) {
            const float4 tap = fourOf(&taps[k][c - n0]), input = k == kept ? v : past.of[k < 3 ? k : 0];
            u.x += tap.x * input.x, u.y += tap.y * input.y, u.z += tap.z * input.z, u.w += tap.w * input.w;
          }
        u.x *= sigmoid(u.x), u.y *= sigmoid(u.y), u.z *= sigmoid(u.z), u.w *= sigmoid(u.w);
#pragma unroll
        for (int k = 0; k < 3; k++)
          if (k < kept) *(float4*)(s.convOut + ((i64)b * kept + k) * s.dInner + c) = k == kept - 1 ? v : past.of[k < 2 ? k + 1 : 0];
        *(float4*)(s.u + b * s.dInner + c) = u;
        *(FourHalves<W>*)((W*)s.uCast + b * s.dInner + c) = narrowFour<W>(u);
      });
}

struct Nothing {};
template <class W, int COLUMNS> __device__ __forceinline__ void xProjectTiles(const TiledStep& t) {
  const Step& s = t.step;
  const int width = (int)(s.dtRank + 2 * s.dState);
  letNext();
  tiles<W, COLUMNS, false, false>(t.tiling, (int)t.stages, (int)s.batch, width, (int)s.dInner, [](int) {}, [](int, int) { return Nothing{}; }, [] {},
      [&](int b, int c, float4 v, Nothing) { *(float4*)(s.dbc + (i64)b * width + c) = v; });
}
template <class W, int COLUMNS> __device__ __forceinline__ void outProjectTiles(const TiledStep& t) {
  const Step& s = t.step;
  // The stream may be what the step of the layer before is still writing.
  tiles<W, COLUMNS, false, true>(t.tiling, (int)t.stages, (int)s.batch, (int)s.dModel, (int)s.dInner, [](int) {},
      [&](int b, int c) {
        float4 before = fourOf(s.x + b * s.dModel + c);
        if (s.update) addTo(before, fourOf(s.update + b * s.dModel + c));
        if (s.outBias) addTo(before, fourOf(s.outBias + c));
        return before;
      },
      // Sooner, the next step's in_proj would take from the memory's rate what this one needs.
      [] { letNext(); },
      [&](int b, int c, float4 v, float4 before) {
        addTo(before, v);
        *(float4*)(s.out + b * s.dModel + c) = before;
        if (!t.next.weight) return;
        const float4 w = fourOf(t.next.weight + c);
        *(FourHalves<W>*)((W*)t.next.normed + b * s.dModel + c) = narrowFour<W>(make_float4(before.x * w.x, before.y * w.y, before.z * w.z, before.w * w.w));
        // So many lanes have a row's columns of the tile.
        constexpr int MATES = COLUMNS / 4;
        const unsigned mates = ((1u << MATES) - 1) << threadIdx.x % 32 / MATES * MATES;
        float square = (before.x * before.x + before.y * before.y) + (before.z * before.z + before.w * before.w);
#pragma unroll
        for (int step = MATES / 2; step > 0; step >>= 1) square += __shfl_xor_sync(mates, square, step);
        if (threadIdx.x % MATES == 0) t.next.squares[b * (s.dModel / COLUMNS) + c / COLUMNS] = square;
      });
}

#define TILES(name, W)                                                                                                                                       \
  extern "C" __global__ void __launch_bounds__(TILE_THREADS, 1) step_in_project_tiles_##name(const __grid_constant__ TiledStep t) { inProjectTiles<W, 64>(t); } \
  extern "C" __global__ void __launch_bounds__(TILE_THREADS, 1) step_x_project_tiles_##name(const __grid_constant__ TiledStep t) { xProjectTiles<W, 16>(t); }   \
  extern "C" __global__ void __launch_bounds__(TILE_THREADS, 1) step_out_project_tiles_##name(const __grid_constant__ TiledStep t) { outProjectTiles<W, OUT_COLUMNS>(t); }
TILES(bf16, bf16)
TILES(f16, f16)
