#include "driver.h"

#include <dlfcn.h>

bool Driver::open(std::string& error) {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    error = std::string("the NVIDIA driver is not here: ") + dlerror();
    return false;
  }
#define FIND(member, symbol, parameters)                                     \
  member = reinterpret_cast<decltype(member)>(dlsym(library, #symbol));      \
  if (member == nullptr) {                                                   \
    error = "the NVIDIA driver is too old: it has no " #symbol;              \
    return false;                                                            \
  }
  CUDA_DRIVER_FUNCTIONS(FIND)
#undef FIND
  TensorMapEncode = reinterpret_cast<CUtensorMapEncode>(dlsym(library, "cuTensorMapEncodeTiled"));
  const CUresult result = Init(0);
  if (result != CUDA_SUCCESS) {
    error = "the NVIDIA driver does not start: " + describe(result);
    return false;
  }
  return true;
}

std::string Driver::describe(CUresult result) const {
  const char* name = nullptr;
  const char* text = nullptr;
  GetErrorName(result, &name);
  GetErrorString(result, &text);
  return std::string(name ? name : "unknown error") + (text ? std::string(": ") + text : "");
}
