// Shared memory of the block that runs: one allocation a variable, poisoned with 0xff (nan, -1).
#pragma once
#include "fibers.h"

namespace cuemu {

constexpr size_t STATIC_LIMIT = 48 << 10;    // any device
constexpr size_t DYNAMIC_LIMIT = 163 << 10;  // compute capability 8.0, opted in

struct Variable { void* key; void* memory; size_t bytes; };
static Variable variables[64];
static int n_variables;
static size_t static_bytes, peak_bytes, dynamic_bytes;
static void* dynamic;

#if defined(CUEMU_TSAN)
// TSan remembers addresses, so every block gets fresh ones; and it watches malloc, mmap and memset,
// which would look like writes by whoever asks first. 1 GiB of addresses, not of memory.
static char* arena;
static size_t arena_used;
constexpr size_t ARENA = size_t(1) << 30;
static char launches_;  // what the end of every thread releases

static void* allocate(size_t bytes, size_t) {
  bytes = (bytes + 63) & ~size_t(63);
  if (arena_used + bytes > ARENA) {
    __tsan_acquire(&launches_);
    arena_used = 0;
  }
  void* memory = arena + arena_used;
  arena_used += bytes;
  for (size_t i = 0; i < bytes / 8; i++) static_cast<volatile uint64_t*>(memory)[i] = ~uint64_t(0);
  return memory;
}
static void release(void*) {}
#else
static void* allocate(size_t bytes, size_t align) {
  void* memory = nullptr;
  if (posix_memalign(&memory, align < 16 ? 16 : align, bytes)) abort();
  unsigned char* byte = static_cast<unsigned char*>(memory);
  for (size_t i = 0; i < bytes; i++) byte[i] = 0xff;
  return memory;
}
static void release(void* memory) { free(memory); }
#endif

static void clear_shared() {
  for (int i = 0; i < n_variables; i++) release(variables[i].memory);
  n_variables = 0;
  static_bytes = 0;
  if (dynamic) release(dynamic);
  dynamic = nullptr;
}

}  // namespace cuemu
