// A kernel that is launched while those before still run (programmatic dependent launch, sm_90) fetches what it can first and waits only then. One that
// calls `letNext` at its start lets a whole chain of kernels wait with their weights in registers. What is read before `awaitPrevious` must not be
// written by any kernel of that chain: a kernel that calls `letNext` only behind `awaitPrevious`, or never, ends it.
#pragma once

// Everything before this kernel is done, and seen.
__device__ __forceinline__ void awaitPrevious() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// The next kernel may start once every block has come here.
__device__ __forceinline__ void letNext() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
