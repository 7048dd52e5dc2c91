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

#define CONV(name, T)                                                                                   \
  extern "C" __global__ void conv_forward_##name(Conv c) { forward<T>(c); }                             \
  extern "C" __global__ void conv_before_##name(Conv c) { before<T>(c); }                               \
  extern "C" __global__ void conv_inputs_##name(Conv c) { inputs<T>(c); }                               \
  extern "C" __global__ void __launch_bounds__(128) conv_weights_##name(Conv c) { weights<T>(c); }
CONV(float32, float)
CONV(bf16, bf16)
CONV(f16, f16)
