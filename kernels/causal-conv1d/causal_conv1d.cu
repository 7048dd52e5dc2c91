// The causal depthwise convolution before the scan, channel-last. Positions are those of [state, x]: token t of x is width - 1 + t. With marks, windows
// hold the latest real tokens of one sequence: they are followed back past padding, and end where a sequence starts. Forward bytes: x once (its
// neighbours come from the cache), y once. Backward: the gradient before the activation is made once and stored; then one pass finds the
// gradient of x and the state, another the gradients of weight and bias in parts that are joined in order.
#include "../common/types.cuh"

struct Conv {
  const void *x, *weight, *bias, *state;
  const int* marks;
  i64 xStride, batch, length, channels, width, silu;
  void *y, *final;
  const void *gy, *gFinal;
  void *gPre, *gx, *gState;
  float* parts;
};

// The token before t (a position in x, negative in the state) in the same sequence; false where there is none.
__device__ __forceinline__ bool stepBack(const Conv& c, i64 row0, i64& t) {
  if (c.marks && t >= 0 && c.marks[row0 + t] > 0) return false;
  t--;
  while (c.marks && t >= 0 && c.marks[row0 + t] < 0) t--;
  return t >= -(c.width - 1);
}

template <class T> __device__ __forceinline__ Wide<T> input(const Conv& c, i64 b, i64 t, i64 channel) {
  if (t >= 0) return widen(((const T*)c.x)[(b * c.length + t) * c.xStride + channel]);
  return c.state ? widen(((const T*)c.state)[(b * (c.width - 1) + c.width - 1 + t) * c.channels + channel]) : Wide<T>(0);
}

// bias + sum_k weight[k] tap k, before the activation.
template <class T> __device__ __forceinline__ Wide<T> convolved(const Conv& c, i64 b, i64 t, i64 channel) {
  Wide<T> sum = c.bias ? widen(((const T*)c.bias)[channel]) : Wide<T>(0);
  const T* weight = (const T*)c.weight + channel * c.width;
  i64 k = c.width - 1;
  do sum += widen(weight[k]) * input<T>(c, b, t, channel);
  while (--k >= 0 && stepBack(c, b * c.length, t));
  return sum;
}

template <class T> __device__ void forward(const Conv& c) {
  const i64 tokens = c.batch * c.length * c.channels, tail = c.batch * (c.width - 1) * c.channels;
  EACH_ELEMENT(i, tokens + tail) {
    if (i < tokens) {
      const i64 channel = i % c.channels, row = i / c.channels, b = row / c.length, t = row % c.length;
      Wide<T> v = 0;
      if (!(c.marks && c.marks[row] < 0)) {
        v = convolved<T>(c, b, t, channel);
        if (c.silu) v *= sigmoid(v);
      }
      ((T*)c.y)[i] = narrow<T>(v);
    } else {
      // The latest width - 1 inputs, oldest first.
      const i64 at = i - tokens, channel = at % c.channels, k = at / c.channels % (c.width - 1), b = at / c.channels / (c.width - 1);
      i64 t = c.length - 1;
      while (c.marks && t >= 0 && c.marks[b * c.length + t] < 0) t--;
      bool found = true;
      for (i64 step = c.width - 2; step > k && found; step--) found = stepBack(c, b * c.length, t);
      ((T*)c.final)[at] = narrow<T>(found ? input<T>(c, b, t, channel) : Wide<T>(0));
    }
  }
}

template <class T> __device__ void before(const Conv& c) {
  EACH_ELEMENT(i, c.batch * c.length * c.channels) {
    const i64 channel = i % c.channels, row = i / c.channels;
    Wide<T> g = 0;
    if (!(c.marks && c.marks[row] < 0)) {
      g = widen(((const T*)c.gy)[i]);
      if (c.silu) {
        const Wide<T> v = convolved<T>(c, row / c.length, row % c.length, channel), s = sigmoid(v);
        g *= s * (Wide<T>(1) + v * (Wide<T>(1) - s));
      }
    }
    ((T*)c.gPre)[i] = narrow<T>(g);
  }
}

// Of each input of [state, x]: it meets weight width - 1 at its own token, width - 2 at the next of its sequence, and so on; then the final state.
template <class T> __device__ void inputs(const Conv& c) {
  const i64 span = c.width - 1 + c.length;
  EACH_ELEMENT(i, c.batch * span * c.channels) {
    const i64 channel = i % c.channels, position = i / c.channels % span, b = i / c.channels / span, own = position - (c.width - 1);
    const T* weight = (const T*)c.weight + channel * c.width;
    const i64 row0 = b * c.length;
    Wide<T> g = 0;
    if (!(own >= 0 && c.marks && c.marks[row0 + own] < 0)) {
      i64 k = own >= 0 ? c.width - 1 : c.width - 1 + own + 1;  // of the first token that this input meets, were it at `t`
      // An input of the state is older than the first token: it meets the weight of its age.
      i64 t = own >= 0 ? own : -1;
      bool cut = false;
      if (own >= 0 && c.gPre) g += widen(weight[k]) * widen(((const T*)c.gPre)[(row0 + t) * c.channels + channel]);
      while (k > 0) {
        t++;
        while (t < c.length && c.marks && c.marks[row0 + t] < 0) t++;
        if (t >= c.length) break;
        if (c.marks && c.marks[row0 + t] > 0) {
          cut = true;
          break;
        }
        k--;
        if (c.gPre) g += widen(weight[k]) * widen(((const T*)c.gPre)[(row0 + t) * c.channels + channel]);
      }
      // Still among the latest width - 1.
      if (c.gFinal && !cut && k > 0) g += widen(((const T*)c.gFinal)[(b * (c.width - 1) + k - 1) * c.channels + channel]);
    }
    if (own >= 0) ((T*)c.gx)[(row0 + own) * c.channels + channel] = narrow<T>(g);
    else if (c.gState) ((T*)c.gState)[(b * (c.width - 1) + position) * c.channels + channel] = narrow<T>(g);
  }
}

// parts [gridDim.y][width + 1][channels]: gradients of the weights, then of the bias, over every gridDim.y-th row.
template <class T> __device__ void weights(const Conv& c) {
  const i64 channel = blockIdx.x * (i64)blockDim.x + threadIdx.x;
  if (channel >= c.channels) return;
  float sums[9] = {};
  for (i64 row = blockIdx.y; row < c.batch * c.length; row += gridDim.y) {
    if (c.marks && c.marks[row] < 0) continue;
    const float g = widen(((const T*)c.gPre)[row * c.channels + channel]);
    const i64 b = row / c.length;
    i64 t = row % c.length, k = c.width - 1;
    bool more = true;
#pragma unroll
    for (int j = 0; j < 8; j++)
      if (more && k - j >= 0) {
        sums[j] += g * (float)input<T>(c, b, t, channel);
        more = stepBack(c, b * c.length, t);
      }
    sums[8] += g;
  }
  float* into = c.parts + blockIdx.y * (c.width + 1) * c.channels + channel;
#pragma unroll
  for (int j = 0; j < 8; j++)
    if (j < c.width) into[(c.width - 1 - j) * c.channels] = sums[j];
  into[c.width * c.channels] = sums[8];
}

// Without marks, at widths 2 to 4: a thread takes 4 channels of a run of tokens and keeps the window in registers, so that every input is loaded
// once (and width - 1 of each run again).
constexpr int LANES = 4;
template <class T> struct alignas(LANES * sizeof(T)) Quad {
  T values[LANES];
};
template <class T> __device__ __forceinline__ void load(const T* p, float (&into)[LANES]) {
  const Quad<T> q = *(const Quad<T>*)p;
#pragma unroll
  for (int i = 0; i < LANES; i++) into[i] = widen(q.values[i]);
}
template <class T> __device__ __forceinline__ void store(T* p, const float (&from)[LANES]) {
  Quad<T> q;
#pragma unroll
  for (int i = 0; i < LANES; i++) q.values[i] = narrow<T>(from[i]);
  *(Quad<T>*)p = q;
}

struct Run {
  i64 b, channel, from, to;
};
// The run that is this thread's: blockIdx.x over quads of channels, blockIdx.y over runs and sequences.
__device__ __forceinline__ bool ownRun(const Conv& c, i64 length, Run& run) {
  const i64 runs = (c.length + length - 1) / length;
  run.channel = (blockIdx.x * (i64)blockDim.x + threadIdx.x) * LANES;
  run.b = blockIdx.y / runs;
  run.from = blockIdx.y % runs * length;
  run.to = min(run.from + length, c.length);
  return run.channel < c.channels;
}

template <class T, int WIDTH> struct Window {
  float weight[WIDTH][LANES], bias[LANES], x[WIDTH][LANES];
  // Inputs before `from` are in x[1 ...], oldest first: one shift before the next comes in.
  __device__ __forceinline__ void begin(const Conv& c, const Run& run) {
#pragma unroll
    for (int i = 0; i < LANES; i++) {
      bias[i] = c.bias ? widen(((const T*)c.bias)[run.channel + i]) : 0.0f;
#pragma unroll
      for (int k = 0; k < WIDTH; k++) weight[k][i] = widen(((const T*)c.weight)[(run.channel + i) * WIDTH + k]);
    }
#pragma unroll
    for (int k = 1; k < WIDTH; k++) {
      const i64 t = run.from - WIDTH + k;
      if (t >= 0) load((const T*)c.x + (run.b * c.length + t) * c.xStride + run.channel, x[k]);
      else if (c.state) load((const T*)c.state + (run.b * (WIDTH - 1) + WIDTH - 1 + t) * c.channels + run.channel, x[k]);
      else
#pragma unroll
        for (int i = 0; i < LANES; i++) x[k][i] = 0;
    }
  }
  __device__ __forceinline__ void push(const float (&next)[LANES]) {
#pragma unroll
    for (int i = 0; i < LANES; i++) {
#pragma unroll
      for (int k = 1; k < WIDTH; k++) x[k - 1][i] = x[k][i];
      x[WIDTH - 1][i] = next[i];
    }
  }
  __device__ __forceinline__ void before(float (&v)[LANES]) const {
#pragma unroll
    for (int i = 0; i < LANES; i++) {
      v[i] = bias[i];
#pragma unroll
      for (int k = 0; k < WIDTH; k++) v[i] += weight[k][i] * x[k][i];
    }
  }
};

__device__ __forceinline__ float quickSigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }

template <class T, int WIDTH> __device__ void forwardRuns(const Conv& c, i64 length) {
  Run run;
  if (!ownRun(c, length, run)) return;
  Window<T, WIDTH> window;
  window.begin(c, run);
  const T* x = (const T*)c.x + (run.b * c.length + run.from) * c.xStride + run.channel;
  T* y = (T*)c.y + (run.b * c.length + run.from) * c.channels + run.channel;
#pragma unroll 4
  for (i64 t = run.from; t < run.to; t++, x += c.xStride, y += c.channels) {
    float v[LANES];
    load(x, v);
    window.push(v);
    window.before(v);
    if (c.silu)
#pragma unroll
      for (int i = 0; i < LANES; i++) v[i] *= quickSigmoid(v[i]);
    store(y, v);
  }
  if (run.to < c.length) return;
#pragma unroll
  for (int k = 1; k < WIDTH; k++) store((T*)c.final + (run.b * (WIDTH - 1) + k - 1) * c.channels + run.channel, window.x[k]);
}

// gPre[t] = gy[t] activation'(v[t]); gx[s] = sum_j weight[width - 1 - j] gPre[s + j], in float32; the weights' gradients over a run go to
// parts [run][width + 1][channels]. The width - 1 tokens after a run are made again.
template <class T, int WIDTH> __device__ void backwardRuns(const Conv& c, i64 length) {
  Run run;
  if (!ownRun(c, length, run)) return;
  Window<T, WIDTH> window;
  window.begin(c, run);
  // pre[j] is of token t - (width - 1) + j.
  float pre[WIDTH][LANES] = {}, sums[WIDTH + 1][LANES] = {};
  for (i64 t = run.from; t < run.to + WIDTH - 1; t++) {
    float g[LANES] = {}, v[LANES];
    if (t < c.length) {
      load((const T*)c.x + (run.b * c.length + t) * c.xStride + run.channel, v);
      load((const T*)c.gy + (run.b * c.length + t) * c.channels + run.channel, g);
      window.push(v);
      if (c.silu) {
        window.before(v);
#pragma unroll
        for (int i = 0; i < LANES; i++) {
          const float s = quickSigmoid(v[i]);
          g[i] *= s * (1.0f + v[i] * (1.0f - s));
        }
      }
    }
    const i64 own = t - (WIDTH - 1);
    float gx[LANES];
#pragma unroll
    for (int i = 0; i < LANES; i++) {
#pragma unroll
      for (int k = 1; k < WIDTH; k++) pre[k - 1][i] = pre[k][i];
      pre[WIDTH - 1][i] = g[i];
      if (t < run.to) {
#pragma unroll
        for (int k = 0; k < WIDTH; k++) sums[k][i] += g[i] * window.x[k][i];
        sums[WIDTH][i] += g[i];
      }
      gx[i] = 0;
#pragma unroll
      for (int j = 0; j < WIDTH; j++) gx[i] += window.weight[WIDTH - 1 - j][i] * pre[j][i];
    }
    // What is before the run is the run before's, but for the state.
    if (own < run.from && run.from > 0) continue;
    const i64 kept = own - (c.length - (WIDTH - 1));
    if (c.gFinal && kept >= 0) {
      float more[LANES];
      load((const T*)c.gFinal + (run.b * (WIDTH - 1) + kept) * c.channels + run.channel, more);
#pragma unroll
      for (int i = 0; i < LANES; i++) gx[i] += more[i];
    }
    if (own >= 0) store((T*)c.gx + (run.b * c.length + own) * c.channels + run.channel, gx);
    else if (c.gState) store((T*)c.gState + (run.b * (WIDTH - 1) + WIDTH - 1 + own) * c.channels + run.channel, gx);
  }
#pragma unroll
  for (int k = 0; k <= WIDTH; k++) store(c.parts + (blockIdx.y * (WIDTH + 1) + k) * c.channels + run.channel, sums[k]);
}

#define RUNS(name, T, WIDTH)                                                                                                              \
  extern "C" __global__ void __launch_bounds__(128) conv_forward_runs_##WIDTH##_##name(Conv c, i64 length) {                            \
    forwardRuns<T, WIDTH>(c, length);                                                                                                   \
  }                                                                                                                                     \
  extern "C" __global__ void __launch_bounds__(128) conv_backward_runs_##WIDTH##_##name(Conv c, i64 length) {                           \
    backwardRuns<T, WIDTH>(c, length);                                                                                                  \
  }
#define EACH_WIDTH(name, T) RUNS(name, T, 2) RUNS(name, T, 3) RUNS(name, T, 4)
EACH_WIDTH(float32, float)
EACH_WIDTH(bf16, bf16)
EACH_WIDTH(f16, f16)

#define CONV(name, T)                                                                                   \
  extern "C" __global__ void conv_forward_##name(Conv c) { forward<T>(c); }                             \
  extern "C" __global__ void conv_before_##name(Conv c) { before<T>(c); }                               \
  extern "C" __global__ void conv_inputs_##name(Conv c) { inputs<T>(c); }                               \
  extern "C" __global__ void __launch_bounds__(128) conv_weights_##name(Conv c) { weights<T>(c); }
CONV(float32, float)
CONV(bf16, bf16)
CONV(f16, f16)
