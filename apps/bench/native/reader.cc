// How fast memory can be read here: `reader THREADS` prints the best bytes per second of several ways to read 512 MiB.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

typedef float f4 __attribute__((vector_size(16)));
constexpr size_t BYTES = size_t(512) << 20, RUN = 8;
volatile float sink;

// K streams side by side: a processor fetches ahead within a page only.
template <int K>
void sum(const f4* p, size_t n) {
  f4 sums[RUN] = {};
  const size_t part = n / K / RUN * RUN;
  for (size_t i = 0; i < part; i += RUN)
    for (int k = 0; k < K; k++)
      for (size_t j = 0; j < RUN; j++) sums[j] += p[k * part + i + j];
  for (size_t j = 1; j < RUN; j++) sums[0] += sums[j];
  sink = sums[0][0];
}

int main(int count, char** arguments) {
  const int threads = count > 1 ? atoi(arguments[1]) : 1;
  f4* data = (f4*)aligned_alloc(64, BYTES);
  const size_t n = BYTES / sizeof(f4), own = n / threads;
  for (size_t i = 0; i < n; i++) data[i] = f4{1, 1, 1, 1};
  double best = 0;
  for (int round = 0; round < 3; round++)
    for (auto way : {sum<1>, sum<2>, sum<4>, sum<8>}) {
      const auto start = std::chrono::steady_clock::now();
      std::vector<std::thread> others;
      for (int t = 1; t < threads; t++) others.emplace_back(way, data + t * own, own);
      way(data, own);
      for (auto& other : others) other.join();
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      const double rate = own * threads * sizeof(f4) / seconds;
      if (rate > best) best = rate;
    }
  printf("%.0f\n", best);
}
