// cuBLASLt's matrix product, found at run time; without the library a kernel of ours takes its place.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>

#include "driver.h"

// One product in cuBLAS's column-major terms: D[m, n] = op(A) op(B), with op transposing where asked.
struct Product {
  int64_t m, n, k, batch;
  int typeIn, typeOut;  // cudaDataType_t
  bool transA, transB;
  int64_t lda, ldb, ldd;
  int64_t strideA, strideB, strideD;
  bool accumulate;  // D += instead of D =
  auto key() const {
    return std::tie(m, n, k, batch, typeIn, typeOut, transA, transB, lda, ldb, ldd, strideA, strideB, strideD, accumulate);
  }
  bool operator<(const Product& other) const { return key() < other.key(); }
};

class CublasLt {
 public:
  // False where the library is not found; `path` is tried first if it is not empty.
  bool open(const std::string& path);
  bool isOpen() const { return handle_ != nullptr; }
  // Enqueues a product; empty when done, else what failed. TF32 is never used: float32 products are float32.
  std::string run(const Product& product, CUdeviceptr a, CUdeviceptr b, CUdeviceptr d, CUdeviceptr workspace,
                  size_t workspaceBytes, CUstream stream);
  // Gives back the handle, which is one device's, and the plans.
  void close();

 private:
  struct Plan {
    void *operation, *a, *b, *d;
    uint64_t algorithm[8];
  };
  std::string plan(const Product& product, size_t workspaceBytes, Plan& into);
  void destroy(const Plan& plan);
  void* handle_ = nullptr;
  std::map<Product, Plan> plans_;
  int (*create_)(void**) = nullptr;
  int (*destroy_)(void*) = nullptr;
  int (*matmul_)(void* handle, void* operation, const void* alpha, const void* a, void* layoutA, const void* b, void* layoutB,
                 const void* beta, const void* c, void* layoutC, void* d, void* layoutD, const void* algorithm, void* workspace,
                 size_t workspaceBytes, CUstream stream) = nullptr;
  int (*descCreate_)(void**, int, int) = nullptr;
  int (*descDestroy_)(void*) = nullptr;
  int (*descSet_)(void*, int, const void*, size_t) = nullptr;
  int (*layoutCreate_)(void**, int, uint64_t, uint64_t, int64_t) = nullptr;
  int (*layoutDestroy_)(void*) = nullptr;
  int (*layoutSet_)(void*, int, const void*, size_t) = nullptr;
  int (*preferenceCreate_)(void**) = nullptr;
  int (*preferenceSet_)(void*, int, const void*, size_t) = nullptr;
  int (*preferenceDestroy_)(void*) = nullptr;
  int (*heuristic_)(void*, void*, void*, void*, void*, void*, void*, int, void*, int*) = nullptr;
};
