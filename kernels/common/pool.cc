// The thread pool: a job lies in shared memory, threads take pieces of it by compare and swap.
// The main thread works too, and never waits for a thread that has not taken a piece: one that sleeps costs nothing.
#include "parallel.h"

#ifdef __wasm_atomics__
namespace {
// A thread without work looks for some about 100 us before it sleeps: waking it takes as long, and a decoding step is a hundred jobs.
constexpr u32 SPINS = 100000, CLOSED = 0xffffffffu;
// Milliseconds without a piece being finished: none takes as long.
constexpr u32 MOST_IDLE = 60000;

// All of it is read and written atomically: WebAssembly's atomics are in one order for all threads.
struct Job {
  Task task;
  const void* context;
  u32 items;
  u32 grain;
};
Job job;
// High half: a number that changes with every job. Low half: its next item, or CLOSED while the next job is being written.
u64 ticket;
u32 finished;
u32 sleepers;
u32 failed;
u32 threads = 1;
// Not on a page's main thread.
u32 may_wait = 1;

template <class T>
INLINE T now(const T* p) {
  return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}
template <class T>
INLINE void set(T* p, T value) {
  __atomic_store_n(p, value, __ATOMIC_SEQ_CST);
}
INLINE u32 number_of(u64 value) { return (u32)(value >> 32); }

// Takes pieces of job `number` until none are left.
void work(u32 number) {
  const Job mine = {now(&job.task), now(&job.context), now(&job.items), now(&job.grain)};
  for (;;) {
    u64 current = now(&ticket);
    const u32 begin = (u32)current;
    if (number_of(current) != number || begin == CLOSED || begin >= mine.items) return;
    const u32 end = mine.items - begin > mine.grain ? begin + mine.grain : mine.items;
    // If this succeeds, the ticket was that of `number` all the time since it was seen first: what was read of the job is its own,
    // and stays so until this piece is reported.
    if (!__atomic_compare_exchange_n(&ticket, &current, current - begin + end, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
      continue;
    mine.task(mine.context, begin, end);
    if (__atomic_add_fetch(&finished, end - begin, __ATOMIC_SEQ_CST) == mine.items)
      __builtin_wasm_memory_atomic_notify((i32*)&finished, 1);
  }
}
}  // namespace

void parallel(u32 items, u32 grain, Task task, const void* context) {
  if (threads == 1 || items <= grain) {
    if (items > 0) task(context, 0, items);
    return;
  }
  const u32 number = number_of(now(&ticket)) + 2;
  set(&ticket, (u64)(number - 1) << 32 | CLOSED);
  set(&job.task, task);
  set(&job.context, context);
  set(&job.items, items);
  set(&job.grain, grain);
  set(&finished, 0u);
  set(&ticket, (u64)number << 32);
  if (now(&sleepers) > 0) __builtin_wasm_memory_atomic_notify((i32*)&ticket + 1, threads);
  work(number);
  for (u32 spin = 0, idle = 0;; spin++) {
    const u32 done = now(&finished);
    if (done == items) return;
    // A thread that was ended in the middle of a piece tells nobody.
    if (now(&failed) || idle > MOST_IDLE) __builtin_trap();
    if (spin <= SPINS || !may_wait) continue;
    const bool timed_out = __builtin_wasm_memory_atomic_wait32((i32*)&finished, (i32)done, 1000000) == 2;
    idle = timed_out ? idle + 1 : 0;
  }
}

u32 team() { return now(&threads); }

// Sets how many threads share the work, this one included.
EXPORT(set_threads)(u32 count, u32 can_wait) {
  set(&threads, count);
  may_wait = can_wait;
}

// A worker's life. It ends when the number of threads is set to 0.
EXPORT(serve)() {
  u32 seen = 0;
  while (now(&threads) > 0) {
    u32 number = number_of(now(&ticket));
    for (u32 spin = 0; number == seen && spin < SPINS; spin++) number = number_of(now(&ticket));
    if (number == seen) {
      __atomic_add_fetch(&sleepers, 1, __ATOMIC_SEQ_CST);
      __builtin_wasm_memory_atomic_wait32((i32*)&ticket + 1, (i32)seen, -1);
      __atomic_sub_fetch(&sleepers, 1, __ATOMIC_SEQ_CST);
    } else
      work(seen = number);
  }
}

// Ends all workers.
EXPORT(stop)() {
  set(&threads, 0u);
  set(&ticket, ((u64)(number_of(now(&ticket)) + 1) << 32) | CLOSED);
  __builtin_wasm_memory_atomic_notify((i32*)&ticket + 1, 1000);
}

// Reported for a worker that died: the main thread must not wait for its piece.
EXPORT(fail)() { set(&failed, 1u); }
#else
void parallel(u32 items, u32, Task task, const void* context) {
  if (items > 0) task(context, 0, items);
}
u32 team() { return 1; }
#endif

// Where the backend writes lists of numbers (axes, strides) for the next call.
static i32 words[1024];
extern "C" __attribute__((export_name("words_at"), visibility("default"))) i32* words_at() { return words; }
