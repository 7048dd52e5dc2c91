// Kernels, and the products and transforms of the libraries.
#include <cstring>

#include "device.h"

Napi::Value Device::Load(const Napi::CallbackInfo& info) {
  const auto image = info[0].As<Napi::Uint8Array>();
  CUmodule module = nullptr;
  if (!enter(info.Env())) return info.Env().Undefined();
  if (failed(info.Env(), driver.ModuleLoadData(&module, image.Data()), "cuModuleLoadData")) return info.Env().Undefined();
  modules_.push_back(module);
  return Napi::Number::New(info.Env(), modules_.size() - 1);
}

// (module, name, bytes of shared memory that launches may ask for, whether its blocks get all of a multiprocessor's on-chip memory as shared memory) -> function
Napi::Value Device::Find(const Napi::CallbackInfo& info) {
  const std::string name = info[1].As<Napi::String>();
  CUfunction function = nullptr;
  if (!enter(info.Env())) return info.Env().Undefined();
  const CUresult result = driver.ModuleGetFunction(&function, modules_.at(natural(info[0])), name.c_str());
  if (failed(info.Env(), result, ("cuModuleGetFunction of " + name).c_str())) return info.Env().Undefined();
  const unsigned bytes = natural(info[2]);
  unsigned& most = sharedBytes_[function];
  if (bytes > 48 * 1024 && bytes > most) {
    if (failed(info.Env(), driver.FuncSetAttribute(function, FUNCTION_MAX_DYNAMIC_SHARED_BYTES, bytes), "cuFuncSetAttribute")) return info.Env().Undefined();
    most = bytes;
  }
  if (info[3].ToBoolean() && failed(info.Env(), driver.FuncSetAttribute(function, FUNCTION_PREFERRED_SHARED_CARVEOUT, 100), "cuFuncSetAttribute"))
    return info.Env().Undefined();
  functions_.push_back(function);
  return Napi::Number::New(info.Env(), functions_.size() - 1);
}

// (function, grid x, y, z, block x, y, z, shared bytes, the parameters as they lie in memory, whether it waits for the one before by itself, blocks of a
// cluster along x, whether they are one struct)
void Device::Launch(const Napi::CallbackInfo& info) {
  auto view = info[8].As<Napi::Uint8Array>();
  size_t size = view.ByteLength();
  void* extra[] = {reinterpret_cast<void*>(1) /* buffer */, view.Data(), reinterpret_cast<void*>(2) /* its size */, &size, nullptr};
  if (!enter(info.Env())) return;
  const CUfunction function = functions_.at(natural(info[0]));
  CUlaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (info[9].ToBoolean()) {
    attributes[count].id = ATTRIBUTE_PROGRAMMATIC_SERIALIZATION;
    attributes[count++].isAllowed = 1;
  }
  if (const unsigned cluster = info[10].IsNumber() ? natural(info[10]) : 1; cluster > 1) {
    attributes[count].id = ATTRIBUTE_CLUSTER_DIMENSION;
    attributes[count].cluster[0] = cluster;
    attributes[count].cluster[1] = attributes[count].cluster[2] = 1;
    count++;
  }
  if (count == 0 && !info[11].ToBoolean()) {
    failed(info.Env(),
           driver.LaunchKernel(function, natural(info[1]), natural(info[2]), natural(info[3]), natural(info[4]), natural(info[5]),
                               natural(info[6]), natural(info[7]), stream_, nullptr, extra),
           "cuLaunchKernel");
    return;
  }
  const CUlaunchConfig config{natural(info[1]), natural(info[2]), natural(info[3]), natural(info[4]), natural(info[5]),
                              natural(info[6]), natural(info[7]), stream_,          attributes,       count};
  // A struct that is aligned to more than 16 bytes does not begin where a buffer of all parameters does.
  void* all[] = {view.Data()};
  const bool isStruct = info[11].ToBoolean();
  failed(info.Env(), driver.LaunchKernelEx(&config, function, isStruct ? all : nullptr, isStruct ? nullptr : extra), "cuLaunchKernelEx");
}

// What the copy engine is told of a tensor [parts, rows, columns] of 16-bit numbers whose boxes are of all parts, some rows and 64 columns: 128 bytes, with
// rows of a box swizzled by 128 bytes, zeros beyond the rows. In one part it has two axes.
// (address, parts, rows, columns, rows of a box, whether bf16)
Napi::Value Device::DescribeTiles(const Napi::CallbackInfo& info) {
  if (!enter(info.Env())) return info.Env().Undefined();
  if (driver.TensorMapEncode == nullptr) {
    Napi::Error::New(info.Env(), "the NVIDIA driver is too old: it has no cuTensorMapEncodeTiled").ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  constexpr int FLOAT16 = 6, BFLOAT16 = 9, SWIZZLE_128 = 3, PROMOTE_256 = 3;
  const uint64_t parts = integer(info[1]), rows = integer(info[2]), columns = integer(info[3]);
  const uint64_t extents[] = {columns, rows, parts}, strides[] = {2 * columns, 2 * columns * rows};
  const unsigned box[] = {64, natural(info[4]), static_cast<unsigned>(parts)}, steps[] = {1, 1, 1};
  CUtensorMap map{};
  const CUresult result = driver.TensorMapEncode(&map, info[5].ToBoolean() ? BFLOAT16 : FLOAT16, parts > 1 ? 3 : 2, reinterpret_cast<void*>(toPointer(info[0])), extents,
                                                 strides, box, steps, 0, SWIZZLE_128, PROMOTE_256, 0);
  if (failed(info.Env(), result, "cuTensorMapEncodeTiled")) return info.Env().Undefined();
  auto bytes = Napi::Uint8Array::New(info.Env(), sizeof map);
  std::memcpy(bytes.Data(), &map, sizeof map);
  return bytes;
}

Napi::Value Device::OpenCublas(const Napi::CallbackInfo& info) {
  if (!enter(info.Env())) return info.Env().Undefined();
  if (!cublas_.isOpen()) cublas_.open(info[0].As<Napi::String>());
  return Napi::Boolean::New(info.Env(), cublas_.isOpen());
}

// (a, b, d, workspace, workspace bytes, then the members of Product in their order)
void Device::Matmul(const Napi::CallbackInfo& info) {
  Product p{};
  p.m = integer(info[5]);
  p.n = integer(info[6]);
  p.k = integer(info[7]);
  p.batch = integer(info[8]);
  p.typeIn = static_cast<int>(integer(info[9]));
  p.typeOut = static_cast<int>(integer(info[10]));
  p.transA = info[11].ToBoolean();
  p.transB = info[12].ToBoolean();
  p.lda = integer(info[13]);
  p.ldb = integer(info[14]);
  p.ldd = integer(info[15]);
  p.strideA = integer(info[16]);
  p.strideB = integer(info[17]);
  p.strideD = integer(info[18]);
  p.accumulate = info[19].ToBoolean();
  if (!enter(info.Env())) return;
  const std::string error =
      cublas_.run(p, toPointer(info[0]), toPointer(info[1]), toPointer(info[2]), toPointer(info[3]), integer(info[4]), stream_);
  if (!error.empty()) Napi::Error::New(info.Env(), error).ThrowAsJavaScriptException();
}

Napi::Value Device::OpenCufft(const Napi::CallbackInfo& info) {
  if (!enter(info.Env())) return info.Env().Undefined();
  if (!cufft_.isOpen()) cufft_.open(info[0].As<Napi::String>());
  return Napi::Boolean::New(info.Env(), cufft_.isOpen());
}

// (n, rows, inverse, double, in, out)
void Device::Fft(const Napi::CallbackInfo& info) {
  if (!enter(info.Env())) return;
  const std::string error =
      cufft_.run(integer(info[0]), integer(info[1]), info[2].ToBoolean(), info[3].ToBoolean(), toPointer(info[4]), toPointer(info[5]), stream_, isRecording_);
  if (!error.empty()) Napi::Error::New(info.Env(), error).ThrowAsJavaScriptException();
}
