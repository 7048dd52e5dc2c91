// A CUDA driver of two devices for machines without any: memory is the host's, kernels do nothing, a wait takes a while. It refuses what is not the current
// context's, keeps account of what it has given, and says at the end of the process what did not come back.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <thread>

namespace {

constexpr int DEVICES = 2, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, INVALID_HANDLE = 400;
constexpr size_t TOTAL = 1 << 20;

struct Context {
  int device, users;
} contexts[DEVICES] = {{0, 0}, {1, 0}};
thread_local Context* current = nullptr;

struct Thing {
  const char* kind;
  int device;
  size_t bytes;
};
std::mutex mutex;
std::map<const void*, Thing> things;
size_t taken[DEVICES];
int refused = 0;

int no(int code) {
  refused++;
  return code;
}
bool isCurrent() { return current != nullptr && current->users > 0; }

int make(const char* kind, void** out, size_t bytes = 8) {
  std::lock_guard<std::mutex> lock(mutex);
  if (!isCurrent()) return no(INVALID_CONTEXT);
  const bool isMemory = std::string(kind) == "memory";
  if (isMemory && taken[current->device] + bytes > TOTAL) return OUT_OF_MEMORY;
  if (isMemory) taken[current->device] += bytes;
  *out = std::calloc(bytes, 1);
  things[*out] = {kind, current->device, bytes};
  return 0;
}
// What is given lies in something of this kind that belongs to the current context.
int check(const char* kind, const void* p, size_t bytes = 0) {
  std::lock_guard<std::mutex> lock(mutex);
  if (!isCurrent()) return no(INVALID_CONTEXT);
  auto found = things.upper_bound(p);
  if (found == things.begin()) return no(INVALID_HANDLE);
  --found;
  const auto& [start, thing] = *found;
  const size_t at = static_cast<const char*>(p) - static_cast<const char*>(start);
  if (std::string(kind) != thing.kind || at + bytes > thing.bytes) return no(INVALID_HANDLE);
  return thing.device == current->device ? 0 : no(INVALID_CONTEXT);
}
int drop(const char* kind, void* p) {
  if (int code = check(kind, p)) return code;
  std::lock_guard<std::mutex> lock(mutex);
  const auto found = things.find(p);
  if (found == things.end()) return no(INVALID_VALUE);
  if (std::string(kind) == "memory") taken[found->second.device] -= found->second.bytes;
  std::free(p);
  things.erase(found);
  return 0;
}
void* at(unsigned long long p) { return reinterpret_cast<void*>(p); }

// When the process ends.
struct Report {
  ~Report() {
    std::map<std::string, int> left;
    for (const auto& entry : things) left[entry.second.kind]++;
    std::fprintf(stderr, "refused %d, contexts %d", refused, contexts[0].users + contexts[1].users);
    for (const auto& [kind, count] : left) std::fprintf(stderr, ", %s %d", kind.c_str(), count);
    std::fprintf(stderr, "\n");
  }
} report;

}  // namespace

extern "C" {
int cuInit(unsigned) { return 0; }
int cuDriverGetVersion(int* v) { return *v = 13000, 0; }
int cuGetErrorName(int code, const char** name) {
  static thread_local std::string text;
  text = "CUDA_ERROR_" + std::to_string(code);
  return *name = text.c_str(), 0;
}
int cuGetErrorString(int, const char** text) { return *text = "the fake driver refuses", 0; }
int cuDeviceGetCount(int* n) { return *n = DEVICES, 0; }
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, 0; }
int cuDeviceGetName(char* name, int size, int) { return std::snprintf(name, size, "fake"), 0; }
int cuDeviceGetAttribute(int* value, int, int) { return *value = 9, 0; }
int cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = TOTAL, 0; }
int cuDevicePrimaryCtxRetain(Context** context, int device) {
  std::lock_guard<std::mutex> lock(mutex);
  contexts[device].users++;
  return *context = &contexts[device], 0;
}
int cuDevicePrimaryCtxRelease_v2(int device) {
  std::lock_guard<std::mutex> lock(mutex);
  return contexts[device].users-- > 0 ? 0 : no(INVALID_CONTEXT);
}
int cuCtxSetCurrent(Context* context) { return current = context, 0; }
int cuMemGetInfo_v2(size_t* free, size_t* total) {
  std::lock_guard<std::mutex> lock(mutex);
  if (!isCurrent()) return no(INVALID_CONTEXT);
  return *free = TOTAL - taken[current->device], *total = TOTAL, 0;
}
int cuMemAlloc_v2(unsigned long long* p, size_t bytes) { return make("memory", reinterpret_cast<void**>(p), bytes); }
int cuMemFree_v2(unsigned long long p) { return drop("memory", at(p)); }
int cuMemAllocHost_v2(void** p, size_t bytes) { return make("pinned", p, bytes); }
int cuMemFreeHost(void* p) { return drop("pinned", p); }
int cuMemcpyHtoD_v2(unsigned long long to, const void* from, size_t bytes) {
  if (int code = check("memory", at(to), bytes)) return code;
  return std::memcpy(at(to), from, bytes), 0;
}
int cuMemcpyHtoDAsync_v2(unsigned long long to, const void* from, size_t bytes, void* stream) {
  if (int code = check("stream", stream)) return code;
  return cuMemcpyHtoD_v2(to, from, bytes);
}
int cuMemcpyDtoHAsync_v2(void* to, unsigned long long from, size_t bytes, void* stream) {
  if (int code = check("stream", stream)) return code;
  if (int code = check("pinned", to, bytes)) return code;
  if (int code = check("memory", at(from), bytes)) return code;
  return std::memcpy(to, at(from), bytes), 0;
}
int cuMemcpyDtoDAsync_v2(unsigned long long to, unsigned long long from, size_t bytes, void* stream) {
  if (int code = check("memory", at(from), bytes)) return code;
  return cuMemcpyHtoDAsync_v2(to, at(from), bytes, stream);
}
int cuMemsetD8Async(unsigned long long to, unsigned char value, size_t bytes, void* stream) {
  if (int code = check("stream", stream)) return code;
  if (int code = check("memory", at(to), bytes)) return code;
  return std::memset(at(to), value, bytes), 0;
}
int cuModuleLoadData(void** module, const void*) { return make("module", module); }
int cuModuleUnload(void* module) { return drop("module", module); }
// A function is its module.
int cuModuleGetFunction(void** function, void* module, const char*) { return *function = module, check("module", module); }
int cuFuncSetAttribute(void* function, int, int) { return check("module", function); }
int cuLaunchKernel(void* function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void* stream, void**, void**) {
  if (int code = check("stream", stream)) return code;
  return check("module", function);
}
struct Attribute {
  int id, pad;
  unsigned value[16];
};
struct Config {
  unsigned grid[3], block[3], shared;
  void* stream;
  Attribute* attributes;
  unsigned count;
};
// Only the attributes that are known: a cluster divides the grid.
int cuLaunchKernelEx(const Config* config, void* function, void** one, void** all) {
  if (int code = check("stream", config->stream)) return code;
  if ((one == nullptr) == (all == nullptr)) return no(INVALID_VALUE);
  for (unsigned i = 0; i < config->count; i++) {
    const auto& [id, pad, value] = config->attributes[i];
    if (id == 4 ? value[0] == 0 || config->grid[0] % value[0] != 0 || value[1] != 1 || value[2] != 1 : id != 6 || value[0] != 1) return no(INVALID_VALUE);
  }
  return check("module", function);
}
// A map begins with its rank, its extents and its box.
int cuTensorMapEncodeTiled(void* map, int type, unsigned rank, void* address, const unsigned long long* extents, const unsigned long long* strides, const unsigned* box,
                           const unsigned*, int, int, int, int) {
  const size_t bytes = rank > 2 ? strides[1] * extents[2] : strides[0] * extents[1];
  if (reinterpret_cast<size_t>(map) % 64 != 0 || (type != 6 && type != 9) || strides[0] != 2 * extents[0]) return no(INVALID_VALUE);
  if (int code = check("memory", address, bytes)) return code;
  unsigned* words = static_cast<unsigned*>(map);
  *words++ = rank;
  for (unsigned i = 0; i < rank; i++) *words++ = extents[i], *words++ = box[i];
  return 0;
}
int cuStreamCreate(void** stream, unsigned) { return make("stream", stream); }
int cuStreamDestroy_v2(void* stream) { return drop("stream", stream); }
int cuStreamSynchronize(void* stream) { return check("stream", stream); }
int cuStreamBeginCapture_v2(void* stream, int) { return check("stream", stream); }
int cuStreamEndCapture(void* stream, void** graph) {
  if (int code = check("stream", stream)) return code;
  return make("graph", graph);
}
int cuGraphInstantiateWithFlags(void** exec, void* graph, unsigned long long) {
  if (int code = check("graph", graph)) return code;
  return make("exec", exec);
}
int cuGraphLaunch(void* exec, void* stream) {
  if (int code = check("stream", stream)) return code;
  return check("exec", exec);
}
int cuGraphExecDestroy(void* exec) { return drop("exec", exec); }
int cuGraphDestroy(void* graph) { return drop("graph", graph); }
int cuEventCreate(void** event, unsigned) { return make("event", event); }
int cuEventRecord(void* event, void* stream) {
  if (int code = check("stream", stream)) return code;
  return check("event", event);
}
int cuEventSynchronize(void* event) {
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  return check("event", event);
}
int cuEventElapsedTime(float* ms, void* from, void* to) {
  if (int code = check("event", from)) return code;
  return *ms = 0, check("event", to);
}
int cuEventDestroy_v2(void* event) { return drop("event", event); }
}
