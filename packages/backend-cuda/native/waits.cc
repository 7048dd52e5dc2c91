// What waits for the device, on threads of libuv, and the memory of the host that it waits for.
#include <cstring>

#include "device.h"

void* Staging::take(size_t bytes) {
  for (size_t i = 0; i < idle_.size(); i++)
    if (idle_[i].second >= bytes && idle_[i].second <= 4 * bytes + 4096) {
      void* found = idle_[i].first;
      idle_.erase(idle_.begin() + i);
      return found;
    }
  void* fresh = nullptr;
  if (driver.MemAllocHost(&fresh, bytes) != CUDA_SUCCESS) return nullptr;
  sizes_.emplace_back(fresh, bytes);
  return fresh;
}

void Staging::give(void* memory) {
  for (const auto& [p, bytes] : sizes_)
    if (p == memory) idle_.emplace_back(p, bytes);
}

void Staging::clear() {
  for (const auto& entry : sizes_) driver.MemFreeHost(entry.first);
  sizes_.clear();
  idle_.clear();
}

// Waits for an event, then resolves with what has been copied until it, or with nothing.
class Device::Wait : public Napi::AsyncWorker {
 public:
  Wait(Napi::Env env, Device* device, Napi::Object self, CUevent event, void* staged, size_t bytes)
      : Napi::AsyncWorker(env),
        device_(device),
        self_(Napi::Persistent(self)),
        deferred_(Napi::Promise::Deferred::New(env)),
        event_(event),
        staged_(staged),
        bytes_(bytes) {}
  // Here, not where it is resolved: a worker thread that is being ended resolves nothing any more.
  ~Wait() override {
    if (staged_ != nullptr) device_->staging_.give(staged_);
    driver.CtxSetCurrent(device_->context_);
    driver.EventDestroy(event_);
  }
  Napi::Promise promise() const { return deferred_.Promise(); }
  void Execute() override {
    driver.CtxSetCurrent(device_->context_);
    const CUresult result = driver.EventSynchronize(event_);
    if (result != CUDA_SUCCESS) SetError("cuEventSynchronize: " + driver.describe(result));
  }
  void OnOK() override {
    Napi::Value value = Env().Undefined();
    if (staged_ != nullptr) {
      Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(Env(), bytes_);
      std::memcpy(buffer.Data(), staged_, bytes_);
      value = buffer;
    }
    deferred_.Resolve(value);
  }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  Device* device_;
  Napi::ObjectReference self_;  // keeps the device while something waits for it
  Napi::Promise::Deferred deferred_;
  CUevent event_;
  void* staged_;
  size_t bytes_;
};

Napi::Value Device::waitHere(const Napi::CallbackInfo& info, void* staged, size_t bytes) {
  CUevent event = nullptr;
  CUresult result = driver.EventCreate(&event, 2 /* without time */);
  if (result == CUDA_SUCCESS && (result = driver.EventRecord(event, stream_)) != CUDA_SUCCESS) driver.EventDestroy(event);
  if (failed(info.Env(), result, "cuEventRecord")) {
    staging_.give(staged);
    return info.Env().Undefined();
  }
  auto* wait = new Wait(info.Env(), this, info.This().As<Napi::Object>(), event, staged, bytes);
  const Napi::Promise promise = wait->promise();
  wait->Queue();
  return promise;
}

Napi::Value Device::CopyOut(const Napi::CallbackInfo& info) {
  const size_t bytes = static_cast<size_t>(integer(info[1]));
  if (!enter(info.Env())) return info.Env().Undefined();
  void* staged = staging_.take(bytes);
  if (staged == nullptr) {
    Napi::Error::New(info.Env(), "cuMemAllocHost: no page-locked memory").ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  if (failed(info.Env(), driver.MemcpyDtoHAsync(staged, toPointer(info[0]), bytes, stream_), "cuMemcpyDtoHAsync")) {
    staging_.give(staged);
    return info.Env().Undefined();
  }
  return waitHere(info, staged, bytes);
}

Napi::Value Device::Synchronize(const Napi::CallbackInfo& info) {
  if (!enter(info.Env())) return info.Env().Undefined();
  return waitHere(info, nullptr, 0);
}
