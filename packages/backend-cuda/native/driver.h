// The part of the CUDA driver API that is used, found at run time: no CUDA header is needed to build, no driver to load the addon.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

using CUresult = int;
using CUdevice = int;
using CUcontext = struct CUctx_st*;
using CUmodule = struct CUmod_st*;
using CUfunction = struct CUfunc_st*;
using CUstream = struct CUstream_st*;
using CUevent = struct CUevent_st*;
using CUgraph = struct CUgraph_st*;
using CUgraphExec = struct CUgraphExec_st*;
using CUdeviceptr = unsigned long long;

constexpr CUresult CUDA_SUCCESS = 0;
constexpr CUresult CUDA_ERROR_OUT_OF_MEMORY = 2;

// CUlaunchConfig, and the attributes that are used.
struct CUlaunchAttribute {
  int id;
  char pad[4];
  union {
    char room[64];
    int isAllowed;
    unsigned cluster[3];
  };
};
constexpr int ATTRIBUTE_CLUSTER_DIMENSION = 4;
constexpr int ATTRIBUTE_PROGRAMMATIC_SERIALIZATION = 6;
constexpr int FUNCTION_MAX_DYNAMIC_SHARED_BYTES = 8;
constexpr int FUNCTION_PREFERRED_SHARED_CARVEOUT = 9;
struct CUlaunchConfig {
  unsigned gridX, gridY, gridZ, blockX, blockY, blockZ, sharedBytes;
  CUstream stream;
  CUlaunchAttribute* attributes;
  unsigned attributeCount;
};

// X(member, symbol, parameters). Names that were versioned carry the version whose signature is declared here.
#define CUDA_DRIVER_FUNCTIONS(X)                                                                                                  \
  X(Init, cuInit, (unsigned))                                                                                                     \
  X(DriverGetVersion, cuDriverGetVersion, (int*))                                                                                 \
  X(GetErrorName, cuGetErrorName, (CUresult, const char**))                                                                       \
  X(GetErrorString, cuGetErrorString, (CUresult, const char**))                                                                   \
  X(DeviceGetCount, cuDeviceGetCount, (int*))                                                                                     \
  X(DeviceGet, cuDeviceGet, (CUdevice*, int))                                                                                     \
  X(DeviceGetName, cuDeviceGetName, (char*, int, CUdevice))                                                                       \
  X(DeviceGetAttribute, cuDeviceGetAttribute, (int*, int, CUdevice))                                                              \
  X(DeviceTotalMem, cuDeviceTotalMem_v2, (size_t*, CUdevice))                                                                     \
  X(PrimaryCtxRetain, cuDevicePrimaryCtxRetain, (CUcontext*, CUdevice))                                                           \
  X(PrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2, (CUdevice))                                                                  \
  X(CtxSetCurrent, cuCtxSetCurrent, (CUcontext))                                                                                  \
  X(MemGetInfo, cuMemGetInfo_v2, (size_t*, size_t*))                                                                              \
  X(MemAlloc, cuMemAlloc_v2, (CUdeviceptr*, size_t))                                                                              \
  X(MemFree, cuMemFree_v2, (CUdeviceptr))                                                                                         \
  X(MemAllocHost, cuMemAllocHost_v2, (void**, size_t))                                                                            \
  X(MemFreeHost, cuMemFreeHost, (void*))                                                                                          \
  X(MemcpyHtoDAsync, cuMemcpyHtoDAsync_v2, (CUdeviceptr, const void*, size_t, CUstream))                                          \
  X(MemcpyHtoD, cuMemcpyHtoD_v2, (CUdeviceptr, const void*, size_t))                                                              \
  X(MemcpyDtoHAsync, cuMemcpyDtoHAsync_v2, (void*, CUdeviceptr, size_t, CUstream))                                                \
  X(MemcpyDtoDAsync, cuMemcpyDtoDAsync_v2, (CUdeviceptr, CUdeviceptr, size_t, CUstream))                                          \
  X(MemsetD8Async, cuMemsetD8Async, (CUdeviceptr, unsigned char, size_t, CUstream))                                               \
  X(ModuleLoadData, cuModuleLoadData, (CUmodule*, const void*))                                                                   \
  X(ModuleUnload, cuModuleUnload, (CUmodule))                                                                                     \
  X(ModuleGetFunction, cuModuleGetFunction, (CUfunction*, CUmodule, const char*))                                                 \
  X(FuncSetAttribute, cuFuncSetAttribute, (CUfunction, int, int))                                                                 \
  X(LaunchKernel, cuLaunchKernel,                                                                                                 \
    (CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream, void**, void**))                 \
  X(LaunchKernelEx, cuLaunchKernelEx, (const CUlaunchConfig*, CUfunction, void**, void**))                                        \
  X(StreamCreate, cuStreamCreate, (CUstream*, unsigned))                                                                          \
  X(StreamDestroy, cuStreamDestroy_v2, (CUstream))                                                                                \
  X(StreamSynchronize, cuStreamSynchronize, (CUstream))                                                                           \
  X(StreamBeginCapture, cuStreamBeginCapture_v2, (CUstream, int))                                                                 \
  X(StreamEndCapture, cuStreamEndCapture, (CUstream, CUgraph*))                                                                   \
  X(GraphInstantiate, cuGraphInstantiateWithFlags, (CUgraphExec*, CUgraph, unsigned long long))                                   \
  X(GraphLaunch, cuGraphLaunch, (CUgraphExec, CUstream))                                                                          \
  X(GraphExecDestroy, cuGraphExecDestroy, (CUgraphExec))                                                                          \
  X(GraphDestroy, cuGraphDestroy, (CUgraph))                                                                                      \
  X(EventCreate, cuEventCreate, (CUevent*, unsigned))                                                                             \
  X(EventRecord, cuEventRecord, (CUevent, CUstream))                                                                              \
  X(EventSynchronize, cuEventSynchronize, (CUevent))                                                                              \
  X(EventElapsedTime, cuEventElapsedTime, (float*, CUevent, CUevent))                                                             \
  X(EventDestroy, cuEventDestroy_v2, (CUevent))

// CUtensorMap, what the copy engine knows of a tensor.
struct alignas(64) CUtensorMap {
  unsigned char bytes[128];
};
// (map, type, rank, address, extents, strides in bytes, box, steps, interleaving, swizzle, promotion, fill)
using CUtensorMapEncode = CUresult (*)(CUtensorMap*, int, unsigned, void*, const uint64_t*, const uint64_t*, const unsigned*, const unsigned*, int, int, int, int);

struct Driver {
  // Null before CUDA 12.
  CUtensorMapEncode TensorMapEncode = nullptr;
#define DECLARE(member, symbol, parameters) CUresult(*member) parameters = nullptr;
  CUDA_DRIVER_FUNCTIONS(DECLARE)
#undef DECLARE
  // Opens libcuda and finds every function. False leaves in `error` what is missing.
  bool open(std::string& error);
  // "CUDA_ERROR_INVALID_VALUE: invalid argument"
  std::string describe(CUresult result) const;
};
