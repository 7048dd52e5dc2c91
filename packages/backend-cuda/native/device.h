// A device of the CUDA driver API for JavaScript: memory, modules, launches, copies, graphs. It holds no policy: what is allocated when, and
// which kernel runs, is decided in TypeScript. Nothing here waits on the calling thread; what waits does so on libuv's threads.
#pragma once
#define NAPI_VERSION 8
#include <napi.h>

#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "cublaslt.h"
#include "cufft.h"
#include "driver.h"

// The process's; found when the first device is made.
extern Driver driver;

// Throws into JavaScript: "cuLaunchKernel: CUDA_ERROR_…: …".
bool failed(Napi::Env env, CUresult result, const char* what);

inline CUdeviceptr toPointer(const Napi::Value& v) { return static_cast<CUdeviceptr>(v.As<Napi::Number>().Int64Value()); }
inline int64_t integer(const Napi::Value& v) { return v.As<Napi::Number>().Int64Value(); }
inline unsigned natural(const Napi::Value& v) { return v.As<Napi::Number>().Uint32Value(); }

// Page-locked memory that copies to the host land in. Kept for reuse: locking takes longer than copying.
class Staging {
 public:
  // Null if there is none.
  void* take(size_t bytes);
  void give(void* memory);
  void clear();

 private:
  std::vector<std::pair<void*, size_t>> idle_, sizes_;
};

class Device : public Napi::ObjectWrap<Device> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit Device(const Napi::CallbackInfo& info);
  ~Device() override { Shut(); }

 private:
  class Wait;

  // device.cc
  // Makes this device the calling thread's, before anything is asked of the driver or of a library: others in this process have made theirs so. False, with an error
  // thrown, once it is closed.
  bool enter(Napi::Env env);
  // All that was made here goes, also where a worker thread ends without having closed it: the context is the process's, and stays as long as anybody has the same
  // device open.
  void Shut();
  Napi::Value Info(const Napi::CallbackInfo&);
  void Close(const Napi::CallbackInfo&) { Shut(); }

  // memory.cc
  Napi::Value MemInfo(const Napi::CallbackInfo&);
  Napi::Value Alloc(const Napi::CallbackInfo&);
  void Release(const Napi::CallbackInfo&);
  void CopyIn(const Napi::CallbackInfo&);
  void CopyInNow(const Napi::CallbackInfo&);
  void Copy(const Napi::CallbackInfo&);
  void Set(const Napi::CallbackInfo&);

  // waits.cc
  Napi::Value waitHere(const Napi::CallbackInfo& info, void* staged, size_t bytes);
  Napi::Value CopyOut(const Napi::CallbackInfo&);
  Napi::Value Synchronize(const Napi::CallbackInfo&);

  // launch.cc
  Napi::Value Load(const Napi::CallbackInfo&);
  Napi::Value Find(const Napi::CallbackInfo&);
  void Launch(const Napi::CallbackInfo&);
  Napi::Value DescribeTiles(const Napi::CallbackInfo&);
  Napi::Value OpenCublas(const Napi::CallbackInfo&);
  void Matmul(const Napi::CallbackInfo&);
  Napi::Value OpenCufft(const Napi::CallbackInfo&);
  void Fft(const Napi::CallbackInfo&);

  // graphs.cc
  void BeginCapture(const Napi::CallbackInfo&);
  Napi::Value EndCapture(const Napi::CallbackInfo&);
  void LaunchGraph(const Napi::CallbackInfo&);
  void DestroyGraph(const Napi::CallbackInfo&);
  Napi::Value Record(const Napi::CallbackInfo&);
  Napi::Value Elapsed(const Napi::CallbackInfo&);

  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  CUstream stream_ = nullptr;
  bool isRecording_ = false;
  std::unordered_set<CUdeviceptr> memory_;
  Staging staging_;
  CublasLt cublas_;
  Cufft cufft_;
  std::vector<CUmodule> modules_;
  std::vector<CUfunction> functions_;
  std::unordered_map<CUfunction, unsigned> sharedBytes_;
  std::vector<CUgraphExec> graphs_;
  std::vector<CUevent> events_;
};
