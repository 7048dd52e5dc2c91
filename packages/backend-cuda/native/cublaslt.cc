#include "cublaslt.h"

#include <dlfcn.h>

#include <cstring>

namespace {
constexpr int COMPUTE_32F = 68, COMPUTE_64F = 70;
constexpr int REAL_32F = 0, REAL_64F = 1;
constexpr int DESC_TRANSA = 3, DESC_TRANSB = 4;
constexpr int LAYOUT_BATCH_COUNT = 5, LAYOUT_BATCH_STRIDE = 6;
constexpr int PREFERENCE_WORKSPACE = 1;

struct Heuristic {
  uint64_t algorithm[8];
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};

std::string failed(const char* what, int status) { return std::string(what) + " gives status " + std::to_string(status); }
}  // namespace

bool CublasLt::open(const std::string& path) {
  void* library = path.empty() ? nullptr : dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so.11", "libcublasLt.so"})
    if (library == nullptr) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return false;
  const auto find = [&](auto& member, const char* name) {
    member = reinterpret_cast<std::decay_t<decltype(member)>>(dlsym(library, name));
    return member != nullptr;
  };
  const bool all = find(create_, "cublasLtCreate") && find(destroy_, "cublasLtDestroy") && find(matmul_, "cublasLtMatmul") &&
                   find(descCreate_, "cublasLtMatmulDescCreate") && find(descDestroy_, "cublasLtMatmulDescDestroy") &&
                   find(descSet_, "cublasLtMatmulDescSetAttribute") &&
                   find(layoutCreate_, "cublasLtMatrixLayoutCreate") &&
                   find(layoutDestroy_, "cublasLtMatrixLayoutDestroy") && find(layoutSet_, "cublasLtMatrixLayoutSetAttribute") &&
                   find(preferenceCreate_, "cublasLtMatmulPreferenceCreate") &&
                   find(preferenceSet_, "cublasLtMatmulPreferenceSetAttribute") &&
                   find(preferenceDestroy_, "cublasLtMatmulPreferenceDestroy") &&
                   find(heuristic_, "cublasLtMatmulAlgoGetHeuristic");
  return all && create_(&handle_) == 0;
}

std::string CublasLt::plan(const Product& p, size_t workspaceBytes, Plan& into) {
  const bool isDouble = p.typeIn == REAL_64F;
  if (int s = descCreate_(&into.operation, isDouble ? COMPUTE_64F : COMPUTE_32F, isDouble ? REAL_64F : REAL_32F))
    return failed("cublasLtMatmulDescCreate", s);
  const int32_t transA = p.transA, transB = p.transB;
  descSet_(into.operation, DESC_TRANSA, &transA, sizeof transA);
  descSet_(into.operation, DESC_TRANSB, &transB, sizeof transB);
  const auto layout = [&](void** out, int type, int64_t rows, int64_t columns, int64_t ld, int64_t stride) {
    if (int s = layoutCreate_(out, type, rows, columns, ld)) return s;
    const int32_t batch = static_cast<int32_t>(p.batch);
    layoutSet_(*out, LAYOUT_BATCH_COUNT, &batch, sizeof batch);
    return layoutSet_(*out, LAYOUT_BATCH_STRIDE, &stride, sizeof stride);
  };
  int s = layout(&into.a, p.typeIn, p.transA ? p.k : p.m, p.transA ? p.m : p.k, p.lda, p.strideA);
  if (s == 0) s = layout(&into.b, p.typeIn, p.transB ? p.n : p.k, p.transB ? p.k : p.n, p.ldb, p.strideB);
  if (s == 0) s = layout(&into.d, p.typeOut, p.m, p.n, p.ldd, p.strideD);
  if (s != 0) return failed("cublasLtMatrixLayoutCreate", s);
  void* preference = nullptr;
  if (int status = preferenceCreate_(&preference)) return failed("cublasLtMatmulPreferenceCreate", status);
  preferenceSet_(preference, PREFERENCE_WORKSPACE, &workspaceBytes, sizeof workspaceBytes);
  Heuristic best{};
  int found = 0;
  s = heuristic_(handle_, into.operation, into.a, into.b, into.d, into.d, preference, 1, &best, &found);
  preferenceDestroy_(preference);
  if (s != 0 || found == 0) return failed("cublasLtMatmulAlgoGetHeuristic", s);
  std::memcpy(into.algorithm, best.algorithm, sizeof best.algorithm);
  return "";
}

std::string CublasLt::run(const Product& p, CUdeviceptr a, CUdeviceptr b, CUdeviceptr d, CUdeviceptr workspace,
                          size_t workspaceBytes, CUstream stream) {
  auto known = plans_.find(p);
  if (known == plans_.end()) {
    Plan fresh{};
    const std::string error = plan(p, workspaceBytes, fresh);
    if (!error.empty()) {
      destroy(fresh);
      return error;
    }
    known = plans_.emplace(p, fresh).first;
  }
  Plan& plan = known->second;
  const float one = 1, zero = 0;
  const double one64 = 1, zero64 = 0;
  const bool isDouble = p.typeIn == REAL_64F;
  const void* alpha = isDouble ? static_cast<const void*>(&one64) : &one;
  const void* beta = p.accumulate ? alpha : isDouble ? static_cast<const void*>(&zero64) : &zero;
  const auto pointer = [](CUdeviceptr x) { return reinterpret_cast<void*>(x); };
  const int s = matmul_(handle_, plan.operation, alpha, pointer(a), plan.a, pointer(b), plan.b, beta, pointer(d),
                        plan.d, pointer(d), plan.d, plan.algorithm, pointer(workspace), workspaceBytes, stream);
  return s == 0 ? "" : failed("cublasLtMatmul", s);
}

void CublasLt::destroy(const Plan& plan) {
  for (void* layout : {plan.a, plan.b, plan.d})
    if (layout != nullptr) layoutDestroy_(layout);
  if (plan.operation != nullptr) descDestroy_(plan.operation);
}

void CublasLt::close() {
  for (const auto& entry : plans_) destroy(entry.second);
  plans_.clear();
  if (handle_ != nullptr) destroy_(handle_);
  handle_ = nullptr;
}
