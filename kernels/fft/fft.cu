// Before cuFFT's inverse real transform: y = x scale, and zeros for the imaginary parts that do not count (of frequency 0, and of n / 2 for even n).
// x, y [rows, bins, 2]. Bytes: x and y once.
#include "../common/types.cuh"

template <class T> __device__ void prepare(const T* x, T* y, i64 rows, i64 bins, int even, double scale) {
  EACH_ELEMENT(i, rows * bins * 2) {
    const i64 bin = i / 2 % bins;
    const bool counts = i % 2 == 0 || (bin != 0 && !(even && bin == bins - 1));
    y[i] = counts ? x[i] * (T)scale : (T)0;
  }
}
extern "C" __global__ void fft_prepare_float32(const float* x, float* y, i64 rows, i64 bins, int even, double scale) {
  prepare(x, y, rows, bins, even, scale);
}
extern "C" __global__ void fft_prepare_float64(const double* x, double* y, i64 rows, i64 bins, int even, double scale) {
  prepare(x, y, rows, bins, even, scale);
}
