#include "cufft.h"

#include <dlfcn.h>

#include <algorithm>
#include <iterator>

namespace {
constexpr int R2C = 0x2a, C2R = 0x2c, D2Z = 0x6a, Z2D = 0x6c;
// Each plan holds memory of its own.
constexpr size_t KEPT = 16;

std::string failed(const char* what, int status) { return std::string(what) + " gives status " + std::to_string(status); }
}  // namespace

bool Cufft::open(const std::string& path) {
  void* library = path.empty() ? nullptr : dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  for (const char* name : {"libcufft.so.12", "libcufft.so.11", "libcufft.so.10", "libcufft.so"})
    if (library == nullptr) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return false;
  const auto find = [&](auto& member, const char* name) {
    member = reinterpret_cast<std::decay_t<decltype(member)>>(dlsym(library, name));
    return member != nullptr;
  };
  const bool all = find(stream_, "cufftSetStream") && find(destroy_, "cufftDestroy") && find(execR2C_, "cufftExecR2C") &&
                   find(execC2R_, "cufftExecC2R") && find(execD2Z_, "cufftExecD2Z") && find(execZ2D_, "cufftExecZ2D");
  return all && find(plan_, "cufftPlanMany");
}

std::string Cufft::run(int64_t n, int64_t rows, bool inverse, bool isDouble, CUdeviceptr in, CUdeviceptr out, CUstream stream,
                       bool isRecorded) {
  const int type = isDouble ? (inverse ? Z2D : D2Z) : (inverse ? C2R : R2C);
  auto known = std::find_if(plans_.begin(), plans_.end(), [&](const Plan& p) { return p.n == n && p.rows == rows && p.type == type; });
  if (known == plans_.end()) {
    if (plans_.size() >= KEPT) {
      const auto oldest = std::find_if(plans_.rbegin(), plans_.rend(), [](const Plan& p) { return !p.isRecorded; });
      if (oldest != plans_.rend()) {
        destroy_(oldest->handle);
        plans_.erase(std::next(oldest).base());
      }
    }
    int size = static_cast<int>(n), handle = 0;
    if (int s = plan_(&handle, 1, &size, nullptr, 1, 0, nullptr, 1, 0, type, static_cast<int>(rows))) return failed("cufftPlanMany", s);
    if (int s = stream_(handle, stream)) {
      destroy_(handle);
      return failed("cufftSetStream", s);
    }
    plans_.push_front({n, rows, type, handle, false});
  } else {
    plans_.splice(plans_.begin(), plans_, known);
  }
  if (isRecorded) plans_.front().isRecorded = true;
  const auto exec = isDouble ? (inverse ? execZ2D_ : execD2Z_) : (inverse ? execC2R_ : execR2C_);
  const int s = exec(plans_.front().handle, reinterpret_cast<void*>(in), reinterpret_cast<void*>(out));
  return s == 0 ? "" : failed("cufftExec", s);
}

void Cufft::close() {
  for (const Plan& plan : plans_) destroy_(plan.handle);
  plans_.clear();
}
