// Memory, and copies that nobody waits for.
#include "device.h"

namespace {
double toNumber(CUdeviceptr p) { return static_cast<double>(p); }
}  // namespace

Napi::Value Device::MemInfo(const Napi::CallbackInfo& info) {
  size_t free = 0, total = 0;
  if (!enter(info.Env())) return info.Env().Undefined();
  driver.MemGetInfo(&free, &total);
  Napi::Array result = Napi::Array::New(info.Env(), 2);
  result[0u] = static_cast<double>(free);
  result[1u] = static_cast<double>(total);
  return result;
}

// 0 where there is no memory: the caller frees what it keeps and tries again.
Napi::Value Device::Alloc(const Napi::CallbackInfo& info) {
  CUdeviceptr p = 0;
  if (!enter(info.Env())) return info.Env().Undefined();
  const CUresult result = driver.MemAlloc(&p, static_cast<size_t>(integer(info[0])));
  if (result == CUDA_ERROR_OUT_OF_MEMORY) return Napi::Number::New(info.Env(), 0);
  if (failed(info.Env(), result, "cuMemAlloc")) return info.Env().Undefined();
  memory_.insert(p);
  return Napi::Number::New(info.Env(), toNumber(p));
}

void Device::Release(const Napi::CallbackInfo& info) {
  if (!enter(info.Env())) return;
  const CUdeviceptr p = toPointer(info[0]);
  if (memory_.erase(p) > 0) failed(info.Env(), driver.MemFree(p), "cuMemFree");
}

// The driver has taken the bytes when the call returns: they come from memory that is not page-locked.
void Device::CopyIn(const Napi::CallbackInfo& info) {
  const auto view = info[1].As<Napi::Uint8Array>();
  if (!enter(info.Env())) return;
  failed(info.Env(), driver.MemcpyHtoDAsync(toPointer(info[0]), view.Data(), view.ByteLength(), stream_), "cuMemcpyHtoDAsync");
}

// Outside the stream, which may be recording a graph: the bytes are there when the call returns.
void Device::CopyInNow(const Napi::CallbackInfo& info) {
  const auto view = info[1].As<Napi::Uint8Array>();
  if (!enter(info.Env())) return;
  failed(info.Env(), driver.MemcpyHtoD(toPointer(info[0]), view.Data(), view.ByteLength()), "cuMemcpyHtoD");
}

void Device::Copy(const Napi::CallbackInfo& info) {
  if (!enter(info.Env())) return;
  failed(info.Env(), driver.MemcpyDtoDAsync(toPointer(info[0]), toPointer(info[1]), integer(info[2]), stream_), "cuMemcpyDtoDAsync");
}

void Device::Set(const Napi::CallbackInfo& info) {
  if (!enter(info.Env())) return;
  failed(info.Env(), driver.MemsetD8Async(toPointer(info[0]), static_cast<unsigned char>(natural(info[1])), integer(info[2]), stream_),
         "cuMemsetD8Async");
}
