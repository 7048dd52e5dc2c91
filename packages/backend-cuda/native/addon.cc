// What JavaScript sees of the addon.
#include "device.h"

Napi::Function Device::Define(Napi::Env env) {
  return DefineClass(env, "Device",
                     {
                         InstanceMethod<&Device::Info>("info"), InstanceMethod<&Device::MemInfo>("memInfo"),
                         InstanceMethod<&Device::Alloc>("alloc"), InstanceMethod<&Device::Release>("release"),
                         InstanceMethod<&Device::Load>("load"), InstanceMethod<&Device::Find>("find"),
                         InstanceMethod<&Device::Launch>("launch"), InstanceMethod<&Device::CopyIn>("copyIn"), InstanceMethod<&Device::CopyInNow>("copyInNow"),
                         InstanceMethod<&Device::CopyOut>("copyOut"), InstanceMethod<&Device::Set>("set"),
                         InstanceMethod<&Device::Copy>("copy"),
                         InstanceMethod<&Device::Synchronize>("synchronize"), InstanceMethod<&Device::BeginCapture>("beginCapture"),
                         InstanceMethod<&Device::EndCapture>("endCapture"), InstanceMethod<&Device::LaunchGraph>("launchGraph"),
                         InstanceMethod<&Device::DestroyGraph>("destroyGraph"), InstanceMethod<&Device::Record>("record"),
                         InstanceMethod<&Device::Elapsed>("elapsed"), InstanceMethod<&Device::OpenCublas>("openCublas"),
                         InstanceMethod<&Device::Matmul>("matmul"), InstanceMethod<&Device::OpenCufft>("openCufft"),
                         InstanceMethod<&Device::Fft>("fft"), InstanceMethod<&Device::DescribeTiles>("describeTiles"), InstanceMethod<&Device::Close>("close"),
                     });
}

namespace {
Napi::Object Initialise(Napi::Env env, Napi::Object exports) {
  exports["Device"] = Device::Define(env);
  return exports;
}
}  // namespace

NODE_API_MODULE(mamba_cuda, Initialise)
