// cuFFT's real transforms of one dimension, found at run time; without the library the transform is composed.
#pragma once
#include <cstdint>
#include <list>
#include <string>

#include "driver.h"

class Cufft {
 public:
  // False where the library is not found; `path` is tried first if it is not empty.
  bool open(const std::string& path);
  bool isOpen() const { return plan_ != nullptr; }
  // Enqueues `rows` transforms of `n` real numbers, unnormalised in both directions; empty when done, else what failed. What is recorded is replayed: its plan,
  // whose memory the replays use, stays.
  std::string run(int64_t n, int64_t rows, bool inverse, bool isDouble, CUdeviceptr in, CUdeviceptr out, CUstream stream, bool isRecorded);
  void close();

 private:
  struct Plan {
    int64_t n, rows;
    int type, handle;
    bool isRecorded;
  };
  // The latest used first.
  std::list<Plan> plans_;
  int (*plan_)(int*, int rank, int* n, int* inembed, int istride, int idist, int* onembed, int ostride, int odist, int type, int batch) = nullptr;
  int (*stream_)(int, CUstream) = nullptr;
  int (*destroy_)(int) = nullptr;
  int (*execR2C_)(int, void*, void*) = nullptr;
  int (*execC2R_)(int, void*, void*) = nullptr;
  int (*execD2Z_)(int, void*, void*) = nullptr;
  int (*execZ2D_)(int, void*, void*) = nullptr;
};
