// A device of the CUDA driver API for JavaScript: memory, modules, launches, copies, graphs. It holds no policy: what is allocated when, and
// which kernel runs, is decided in TypeScript. Nothing here waits on the calling thread; what waits does so on libuv's threads.
#define NAPI_VERSION 8
#include <napi.h>

#include <cstring>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "cublaslt.h"
#include "cufft.h"
#include "driver.h"

namespace {

Driver driver;

// Throws into JavaScript: "cuLaunchKernel: CUDA_ERROR_…: …".
bool failed(Napi::Env env, CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return false;
  Napi::Error::New(env, std::string(what) + ": " + driver.describe(result)).ThrowAsJavaScriptException();
  return true;
}

double toNumber(CUdeviceptr p) { return static_cast<double>(p); }
CUdeviceptr toPointer(const Napi::Value& v) { return static_cast<CUdeviceptr>(v.As<Napi::Number>().Int64Value()); }
int64_t integer(const Napi::Value& v) { return v.As<Napi::Number>().Int64Value(); }
unsigned natural(const Napi::Value& v) { return v.As<Napi::Number>().Uint32Value(); }

// Page-locked memory that copies to the host land in. Kept for reuse: locking takes longer than copying.
class Staging {
 public:
  void* take(size_t bytes) {
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
  void give(void* memory) {
    for (const auto& [p, bytes] : sizes_)
      if (p == memory) idle_.emplace_back(p, bytes);
  }
  void clear() {
    for (const auto& entry : sizes_) driver.MemFreeHost(entry.first);
    sizes_.clear();
    idle_.clear();
  }

 private:
  std::vector<std::pair<void*, size_t>> idle_, sizes_;
};

class Device : public Napi::ObjectWrap<Device> {
 public:
  static Napi::Function Define(Napi::Env env) {
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

  explicit Device(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Device>(info) {
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

  ~Device() override { Shut(); }

 private:
  // Makes this device the calling thread's, before anything is asked of the driver or of a library: others in this process have made theirs so. False, with an error
  // thrown, once it is closed.
  bool enter(Napi::Env env) {
    if (context_ == nullptr) {
      Napi::Error::New(env, "the device has been closed").ThrowAsJavaScriptException();
      return false;
    }
    return !failed(env, driver.CtxSetCurrent(context_), "cuCtxSetCurrent");
  }

  Napi::Value Info(const Napi::CallbackInfo& info) {
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

  Napi::Value MemInfo(const Napi::CallbackInfo& info) {
    size_t free = 0, total = 0;
    if (!enter(info.Env())) return info.Env().Undefined();
    driver.MemGetInfo(&free, &total);
    Napi::Array result = Napi::Array::New(info.Env(), 2);
    result[0u] = static_cast<double>(free);
    result[1u] = static_cast<double>(total);
    return result;
  }

  // 0 where there is no memory: the caller frees what it keeps and tries again.
  Napi::Value Alloc(const Napi::CallbackInfo& info) {
    CUdeviceptr p = 0;
    if (!enter(info.Env())) return info.Env().Undefined();
    const CUresult result = driver.MemAlloc(&p, static_cast<size_t>(integer(info[0])));
    if (result == CUDA_ERROR_OUT_OF_MEMORY) return Napi::Number::New(info.Env(), 0);
    if (failed(info.Env(), result, "cuMemAlloc")) return info.Env().Undefined();
    memory_.insert(p);
    return Napi::Number::New(info.Env(), toNumber(p));
  }

  void Release(const Napi::CallbackInfo& info) {
    if (!enter(info.Env())) return;
    const CUdeviceptr p = toPointer(info[0]);
    if (memory_.erase(p) > 0) failed(info.Env(), driver.MemFree(p), "cuMemFree");
  }

  Napi::Value Load(const Napi::CallbackInfo& info) {
    const auto image = info[0].As<Napi::Uint8Array>();
    CUmodule module = nullptr;
    if (!enter(info.Env())) return info.Env().Undefined();
    if (failed(info.Env(), driver.ModuleLoadData(&module, image.Data()), "cuModuleLoadData")) return info.Env().Undefined();
    modules_.push_back(module);
    return Napi::Number::New(info.Env(), modules_.size() - 1);
  }

  // (module, name, bytes of shared memory that launches may ask for) -> function
  // (module, name, most bytes of shared memory, whether its blocks get all of a multiprocessor's on-chip memory as shared memory)
  Napi::Value Find(const Napi::CallbackInfo& info) {
    const std::string name = info[1].As<Napi::String>();
    CUfunction function = nullptr;
    driver.CtxSetCurrent(context_);
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
  void Launch(const Napi::CallbackInfo& info) {
    auto view = info[8].As<Napi::Uint8Array>();
    size_t size = view.ByteLength();
    void* extra[] = {reinterpret_cast<void*>(1) /* buffer */, view.Data(), reinterpret_cast<void*>(2) /* its size */, &size, nullptr};
    driver.CtxSetCurrent(context_);
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
  Napi::Value DescribeTiles(const Napi::CallbackInfo& info) {
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

  // The driver has taken the bytes when the call returns: they come from memory that is not page-locked.
  void CopyIn(const Napi::CallbackInfo& info) {
    const auto view = info[1].As<Napi::Uint8Array>();
    if (!enter(info.Env())) return;
    failed(info.Env(), driver.MemcpyHtoDAsync(toPointer(info[0]), view.Data(), view.ByteLength(), stream_), "cuMemcpyHtoDAsync");
  }

  // Outside the stream, which may be recording a graph: the bytes are there when the call returns.
  void CopyInNow(const Napi::CallbackInfo& info) {
    const auto view = info[1].As<Napi::Uint8Array>();
    if (!enter(info.Env())) return;
    failed(info.Env(), driver.MemcpyHtoD(toPointer(info[0]), view.Data(), view.ByteLength()), "cuMemcpyHtoD");
  }

  void Copy(const Napi::CallbackInfo& info) {
    if (!enter(info.Env())) return;
    failed(info.Env(), driver.MemcpyDtoDAsync(toPointer(info[0]), toPointer(info[1]), integer(info[2]), stream_), "cuMemcpyDtoDAsync");
  }

  void Set(const Napi::CallbackInfo& info) {
    if (!enter(info.Env())) return;
    failed(info.Env(), driver.MemsetD8Async(toPointer(info[0]), static_cast<unsigned char>(natural(info[1])), integer(info[2]), stream_),
           "cuMemsetD8Async");
  }

  // Waits for an event, then resolves with what has been copied until it, or with nothing.
  class Wait : public Napi::AsyncWorker {
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

  Napi::Value waitHere(const Napi::CallbackInfo& info, void* staged, size_t bytes) {
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

  Napi::Value CopyOut(const Napi::CallbackInfo& info) {
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

  Napi::Value Synchronize(const Napi::CallbackInfo& info) {
    if (!enter(info.Env())) return info.Env().Undefined();
    return waitHere(info, nullptr, 0);
  }

  void BeginCapture(const Napi::CallbackInfo& info) {
    if (!enter(info.Env())) return;
    // Relaxed: memory may be allocated meanwhile.
    isRecording_ = !failed(info.Env(), driver.StreamBeginCapture(stream_, 2), "cuStreamBeginCapture");
  }

  Napi::Value EndCapture(const Napi::CallbackInfo& info) {
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
    if (!enter(info.Env())) return info.Env().Undefined();
    isRecording_ = false;
    if (failed(info.Env(), driver.StreamEndCapture(stream_, &graph), "cuStreamEndCapture")) return info.Env().Undefined();
    const CUresult result = driver.GraphInstantiate(&exec, graph, 0);
    driver.GraphDestroy(graph);
    if (failed(info.Env(), result, "cuGraphInstantiate")) return info.Env().Undefined();
    graphs_.push_back(exec);
    return Napi::Number::New(info.Env(), graphs_.size() - 1);
  }

  void LaunchGraph(const Napi::CallbackInfo& info) {
    if (!enter(info.Env())) return;
    failed(info.Env(), driver.GraphLaunch(graphs_.at(natural(info[0])), stream_), "cuGraphLaunch");
  }

  void DestroyGraph(const Napi::CallbackInfo& info) {
    if (!enter(info.Env())) return;
    CUgraphExec& exec = graphs_.at(natural(info[0]));
    if (exec != nullptr) driver.GraphExecDestroy(exec);
    exec = nullptr;
  }

  // Marks a point of the stream for `elapsed`.
  Napi::Value Record(const Napi::CallbackInfo& info) {
    CUevent event = nullptr;
    if (!enter(info.Env())) return info.Env().Undefined();
    if (failed(info.Env(), driver.EventCreate(&event, 0), "cuEventCreate")) return info.Env().Undefined();
    if (failed(info.Env(), driver.EventRecord(event, stream_), "cuEventRecord")) return info.Env().Undefined();
    events_.push_back(event);
    return Napi::Number::New(info.Env(), events_.size() - 1);
  }

  // Milliseconds between two recorded points that have been reached.
  Napi::Value Elapsed(const Napi::CallbackInfo& info) {
    float ms = 0;
    if (!enter(info.Env())) return info.Env().Undefined();
    if (failed(info.Env(), driver.EventElapsedTime(&ms, events_.at(natural(info[0])), events_.at(natural(info[1]))), "cuEventElapsedTime"))
      return info.Env().Undefined();
    return Napi::Number::New(info.Env(), ms);
  }

  Napi::Value OpenCublas(const Napi::CallbackInfo& info) {
    if (!enter(info.Env())) return info.Env().Undefined();
    if (!cublas_.isOpen()) cublas_.open(info[0].As<Napi::String>());
    return Napi::Boolean::New(info.Env(), cublas_.isOpen());
  }

  // (a, b, d, workspace, workspace bytes, then the members of Product in their order)
  void Matmul(const Napi::CallbackInfo& info) {
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

  Napi::Value OpenCufft(const Napi::CallbackInfo& info) {
    if (!enter(info.Env())) return info.Env().Undefined();
    if (!cufft_.isOpen()) cufft_.open(info[0].As<Napi::String>());
    return Napi::Boolean::New(info.Env(), cufft_.isOpen());
  }

  // (n, rows, inverse, double, in, out)
  void Fft(const Napi::CallbackInfo& info) {
    if (!enter(info.Env())) return;
    const std::string error =
        cufft_.run(integer(info[0]), integer(info[1]), info[2].ToBoolean(), info[3].ToBoolean(), toPointer(info[4]), toPointer(info[5]), stream_, isRecording_);
    if (!error.empty()) Napi::Error::New(info.Env(), error).ThrowAsJavaScriptException();
  }

  void Close(const Napi::CallbackInfo&) { Shut(); }

  // All that was made here goes, also where a worker thread ends without having closed it: the context is the process's, and stays as long as anybody has the same
  // device open.
  void Shut() {
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

Napi::Object Initialise(Napi::Env env, Napi::Object exports) {
  exports["Device"] = Device::Define(env);
  return exports;
}

}  // namespace

NODE_API_MODULE(mamba_cuda, Initialise)
