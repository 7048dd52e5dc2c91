// Work shared among threads. What an item computes must not depend on which thread runs it, nor with which others.
#pragma once
#include "simd.h"

using Task = void (*)(const void* context, u32 begin, u32 end);

// Runs task(context, begin, end) over all of [0, items) in pieces of `grain` items, and returns when all are done.
void parallel(u32 items, u32 grain, Task task, const void* context);

// How many threads share the work: for the size of pieces, on which no result may depend.
u32 team();

template <class F>
INLINE void parallel_for(u32 items, u32 grain, const F& body) {
  parallel(items, grain < 1 ? 1 : grain, [](const void* f, u32 b, u32 e) { (*(const F*)f)(b, e); }, &body);
}

// body(begin, end) over n elements, cut at multiples of 2048.
template <class F>
INLINE void parallel_elements(u32 n, const F& body) {
  constexpr u32 BLOCK = 2048;
  parallel_for(ceil_div(n, BLOCK), 4, [&](u32 b, u32 e) { body(b * BLOCK, e * BLOCK < n && e * BLOCK >= b ? e * BLOCK : n); });
}
