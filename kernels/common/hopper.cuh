// What only sm_90 has: barriers of shared memory that count bytes, the copy engine, and wgmma (sm_90a), which takes both factors from shared memory.
#pragma once
#include "types.cuh"

__device__ __forceinline__ unsigned sharedAddress(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void barrierInit(unsigned bar, int count) { asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(bar), "r"(count) : "memory"); }
__device__ __forceinline__ void barrierExpect(unsigned bar, int bytes) {
  asm volatile("{ .reg .b64 state; mbarrier.arrive.expect_tx.shared.b64 state, [%0], %1; }" ::"r"(bar), "r"(bytes) : "memory");
}
__device__ __forceinline__ void barrierArrive(unsigned bar) { asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(bar) : "memory"); }
__device__ __forceinline__ void barrierWait(unsigned bar, int parity) {
  asm volatile("{ .reg .pred done; again: mbarrier.try_wait.parity.shared.b64 done, [%0], %1; @!done bra again; }" ::"r"(bar), "r"(parity) : "memory");
}
// How the second-level cache ranks what comes in: what is read once goes first, what is read again last (a policy of "normal" rank is slower than none).
__device__ __forceinline__ unsigned long long readOnce() {
  unsigned long long policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ __forceinline__ unsigned long long readAgain() {
  unsigned long long policy;
  asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
// A box of the tensor that `map` describes, from (column, row) on.
__device__ __forceinline__ void copyTile(unsigned to, const void* map, int column, int row, unsigned bar, unsigned long long policy) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to), "l"(map), "r"(column),
               "r"(row), "r"(bar), "l"(policy)
               : "memory");
}
// The same of a tensor in parts [part, row, column], boxes of all parts.
__device__ __forceinline__ void copyParts(unsigned to, const void* map, int column, int row, unsigned bar, unsigned long long policy) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(to), "l"(map), "r"(column),
               "r"(row), "r"(0), "r"(bar), "l"(policy)
               : "memory");
}

// Rows of 128 bytes, eight of them an atom whose 16-byte pieces are swizzled; atoms 1024 bytes apart.
__device__ __forceinline__ unsigned long long tileDescriptor(unsigned address) { return (address & 0x3FFFFull) >> 4 | 1ull << 16 | 64ull << 32 | 1ull << 62; }
__device__ __forceinline__ void wgmmaFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmmaCommit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int LEFT> __device__ __forceinline__ void wgmmaWait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory"); }
#define ACCUMULATORS8(c) "+f"((c)[0]), "+f"((c)[1]), "+f"((c)[2]), "+f"((c)[3]), "+f"((c)[4]), "+f"((c)[5]), "+f"((c)[6]), "+f"((c)[7])
// c[64, 8 or 16 or 32] += a[64, 16] b[.., 16]^T, all rows along k; of 64 x 8 a lane holds 4.
template <class W> struct Wgmma;
#define WGMMA_TYPE(W, name)                                                                                                                   \
  template <> struct Wgmma<W> {                                                                                                               \
    static __device__ __forceinline__ void run(float (&c)[4], unsigned long long a, unsigned long long b) {                                  \
      asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32." name "." name " {%0,%1,%2,%3}, %4, %5, 1, 1, 1, 0, 0;"                        \
                   : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "l"(a), "l"(b));                                                        \
    }                                                                                                                                         \
    static __device__ __forceinline__ void run(float (&c)[8], unsigned long long a, unsigned long long b) {                                  \
      asm volatile("wgmma.mma_async.sync.aligned.m64n16k16.f32." name "." name " {%0,%1,%2,%3,%4,%5,%6,%7}, %8, %9, 1, 1, 1, 0, 0;"         \
                   : ACCUMULATORS8(c) : "l"(a), "l"(b));                                                                                      \
    }                                                                                                                                         \
    static __device__ __forceinline__ void run(float (&c)[16], unsigned long long a, unsigned long long b) {                                 \
      asm volatile("wgmma.mma_async.sync.aligned.m64n32k16.f32." name "." name                                                               \
                   " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, %16, %17, 1, 1, 1, 0, 0;"                                      \
                   : ACCUMULATORS8(c), ACCUMULATORS8(c + 8) : "l"(a), "l"(b));                                                                \
    }                                                                                                                                         \
  };
WGMMA_TYPE(bf16, "bf16")
WGMMA_TYPE(f16, "f16")
