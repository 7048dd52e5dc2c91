// The thread pool: a job lies in shared memory, threads take pieces of it by compare and swap.
// The main thread works too, and never waits for a thread that has not taken a piece: one that sleeps costs nothing.
#include "parallel.h"

#ifdef __wasm_atomics__
namespace {
constexpr u32 SPINS = 4000;

struct Job {
  Task task;
  const void* context;
  u32 items;
  u32 grain;
};
Job job;
// High half: number of the job. Low half: next item.
u64 ticket;
u32 finished;
u32 sleepers;
u32 failed;
u32 threads = 1;
// Not on a page's main thread.
u32 may_wait = 1;

INLINE u64 now(u64* p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }

// Takes pieces of job `number` until none are left.
void work(u32 number) {
  u64 current = now(&ticket);
  if ((u32)(current >> 32) != number) return;
  const Job mine = job;
  for (;;) {
    current = now(&ticket);
    const u32 begin = (u32)current;
    if ((u32)(current >> 32) != number || begin >= mine.items) return;
    const u32 end = mine.items - begin > mine.grain ? begin + mine.grain : mine.items;
    // If this succeeds, the job is still `number`, and stays it until this piece is reported: what was read of it holds.
    if (!__atomic_compare_exchange_n(&ticket, &current, current - begin + end, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
      continue;
    mine.task(mine.context, begin, end);
    if (__atomic_add_fetch(&finished, end - begin, __ATOMIC_ACQ_REL) == mine.items && may_wait)
      __builtin_wasm_memory_atomic_notify((i32*)&finished, 1);
  }
}
}  // namespace

void parallel(u32 items, u32 grain, Task task, const void* context) {
  if (threads == 1 || items <= grain) {
    if (items > 0) task(context, 0, items);
    return;
  }
  job = Job{task, context, items, grain};
  __atomic_store_n(&finished, 0, __ATOMIC_RELAXED);
  const u32 number = (u32)(ticket >> 32) + 1;
  __atomic_store_n(&ticket, (u64)number << 32, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&sleepers, __ATOMIC_SEQ_CST) > 0)
    __builtin_wasm_memory_atomic_notify((i32*)&ticket + 1, threads);
  work(number);
  for (u32 spin = 0;; spin++) {
    const u32 done = __atomic_load_n(&finished, __ATOMIC_ACQUIRE);
    if (done == items) return;
    if (__atomic_load_n(&failed, __ATOMIC_RELAXED)) __builtin_trap();
    if (spin > SPINS && may_wait) __builtin_wasm_memory_atomic_wait32((i32*)&finished, (i32)done, 1000000);
  }
}

// Sets how many threads share the work, this one included.
EXPORT(set_threads)(u32 count, u32 can_wait) {
  threads = count;
  may_wait = can_wait;
}

// A worker's life. It ends when the number of threads is set to 0.
EXPORT(serve)() {
  u32 seen = 0;
  for (;;) {
    u32 number = (u32)(now(&ticket) >> 32);
    for (u32 spin = 0; number == seen && spin < SPINS; spin++) number = (u32)(now(&ticket) >> 32);
    if (number == seen) {
      __atomic_add_fetch(&sleepers, 1, __ATOMIC_SEQ_CST);
      __builtin_wasm_memory_atomic_wait32((i32*)&ticket + 1, (i32)seen, -1);
      __atomic_sub_fetch(&sleepers, 1, __ATOMIC_SEQ_CST);
    }
    if (__atomic_load_n(&threads, __ATOMIC_ACQUIRE) == 0) return;
    if (number != seen) work(seen = number);
  }
}

// Wakes all workers to find that they are to end.
EXPORT(stop)() {
  __atomic_store_n(&threads, 0, __ATOMIC_SEQ_CST);
  __atomic_add_fetch(&ticket, (u64)1 << 32, __ATOMIC_SEQ_CST);
  __builtin_wasm_memory_atomic_notify((i32*)&ticket + 1, 1000);
}

// Reported for a worker that died: the main thread must not wait for its piece.
EXPORT(fail)() { __atomic_store_n(&failed, 1, __ATOMIC_SEQ_CST); }
#else
void parallel(u32 items, u32, Task task, const void* context) {
  if (items > 0) task(context, 0, items);
}
#endif

// Where the backend writes lists of numbers (axes, strides) for the next call.
static i32 words[1024];
extern "C" __attribute__((export_name("words_at"), visibility("default"))) i32* words_at() { return words; }
