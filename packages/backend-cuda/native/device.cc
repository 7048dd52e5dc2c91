// Opening and closing a device, and what it is.
#include "device.h"

#include <mutex>

Driver driver;

bool failed(Napi::Env env, CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return false;
  Napi::Error::New(env, std::string(what) + ": " + driver.describe(result)).ThrowAsJavaScriptException();
  return true;
}

Device::Device(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Device>(info) {
  const Napi::Env env = info.Env();
  static std::once_flag once;
  static std::string missing;
  std::call_once(once, [] { driver.open(missing); });
  if (!missing.empty()) {
    Napi::Error::New(env, missing).ThrowAsJavaScriptException();
    return;
  }
  int count = 0;
  driver.DeviceGetCount(&count);
  const int ordinal = static_cast<int>(integer(info[0]));
  if (ordinal < 0 || ordinal >= count) {
    Napi::Error::New(env, "there is no device " + std::to_string(ordinal) + " of " + std::to_string(count)).ThrowAsJavaScriptException();
    return;
  }
  if (failed(env, driver.DeviceGet(&device_, ordinal), "cuDeviceGet")) return;
  if (failed(env, driver.PrimaryCtxRetain(&context_, device_), "cuDevicePrimaryCtxRetain")) return;
  driver.CtxSetCurrent(context_);
  failed(env, driver.StreamCreate(&stream_, 1 /* does not wait for the default stream */), "cuStreamCreate");
}

bool Device::enter(Napi::Env env) {
  if (context_ == nullptr) {
    Napi::Error::New(env, "the device has been closed").ThrowAsJavaScriptException();
    return false;
  }
  return !failed(env, driver.CtxSetCurrent(context_), "cuCtxSetCurrent");
}

Napi::Value Device::Info(const Napi::CallbackInfo& info) {
  char name[256] = "";
  size_t total = 0;
  int version = 0;
  driver.DeviceGetName(name, sizeof name, device_);
  driver.DeviceTotalMem(&total, device_);
  driver.DriverGetVersion(&version);
  const auto attribute = [&](int which) {
    int value = 0;
    driver.DeviceGetAttribute(&value, which, device_);
    return value;
  };
  Napi::Object result = Napi::Object::New(info.Env());
  result["name"] = name;
  result["totalBytes"] = static_cast<double>(total);
  result["driver"] = version;
  result["multiprocessors"] = attribute(16);
  result["major"] = attribute(75);
  result["minor"] = attribute(76);
  result["describesTensors"] = driver.TensorMapEncode != nullptr;
  return result;
}

void Device::Shut() {
  if (context_ == nullptr) return;
  driver.CtxSetCurrent(context_);
  driver.StreamSynchronize(stream_);
  for (CUgraphExec exec : graphs_)
    if (exec != nullptr) driver.GraphExecDestroy(exec);
  for (CUevent event : events_) driver.EventDestroy(event);
  staging_.clear();
  cufft_.close();
  cublas_.close();
  for (CUmodule module : modules_) driver.ModuleUnload(module);
  for (CUdeviceptr p : memory_) driver.MemFree(p);
  driver.StreamDestroy(stream_);
  driver.PrimaryCtxRelease(device_);
  context_ = nullptr;
}
