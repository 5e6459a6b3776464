// Counts what kernels read and write: the compiler is told to instrument for ThreadSanitizer, and
// the functions that it calls are these. A load that the compiler keeps in a register is one.
#pragma once
#include "memory.h"

extern "C" __attribute__((visibility("hidden"))) char __ehdr_start[], _end[];  // the linker's: this library

namespace cuemu {

static uint64_t bytes_read, bytes_written, n_atomics;

static bool within(const void* address, const void* start, size_t bytes) {
  return address >= start && address < static_cast<const char*>(start) + bytes;
}

static bool is_global(const void* p) {
  if (!running || within(p, running->stack - GUARD, GUARD + STACK)) return false;
  if (within(p, threads.data(), threads.size() * sizeof(Thread))) return false;  // threadIdx and its like
  if (within(p, __ehdr_start, (size_t)(_end - __ehdr_start)) || within(p, dynamic, dynamic_bytes)) return false;
  for (int i = 0; i < n_variables; i++) if (within(p, variables[i].memory, variables[i].bytes)) return false;
  return true;
}
static inline void count_read(const void* p, size_t bytes) { if (is_global(p)) bytes_read += bytes; }
static inline void count_written(const void* p, size_t bytes) { if (is_global(p)) bytes_written += bytes; }

}  // namespace cuemu

#define CUEMU_COUNTED(BYTES)                                                                            \
  void __tsan_read##BYTES(void* p) { cuemu::count_read(p, BYTES); }                                     \
  void __tsan_write##BYTES(void* p) { cuemu::count_written(p, BYTES); }                                 \
  void __tsan_unaligned_read##BYTES(void* p) { cuemu::count_read(p, BYTES); }                           \
  void __tsan_unaligned_write##BYTES(void* p) { cuemu::count_written(p, BYTES); }                       \
  void __tsan_volatile_read##BYTES(void* p) { cuemu::count_read(p, BYTES); }                            \
  void __tsan_volatile_write##BYTES(void* p) { cuemu::count_written(p, BYTES); }
// An atomic is a loop of a load and an exchange here, and one operation on a device.
#define CUEMU_ATOMIC(BITS, T)                                                                           \
  T __tsan_atomic##BITS##_load(const volatile T* p, int) { return __atomic_load_n(p, __ATOMIC_RELAXED); } \
  int __tsan_atomic##BITS##_compare_exchange_weak(volatile T* p, T* old, T value, int, int) {           \
    if (!__atomic_compare_exchange_n(p, old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return 0; \
    cuemu::count_read((const void*)p, sizeof(T));                                                       \
    cuemu::count_written((const void*)p, sizeof(T));                                                    \
    cuemu::n_atomics += cuemu::is_global((const void*)p);                                               \
    return 1;                                                                                           \
  }
extern "C" {
CUEMU_COUNTED(1) CUEMU_COUNTED(2) CUEMU_COUNTED(4) CUEMU_COUNTED(8) CUEMU_COUNTED(16)
CUEMU_ATOMIC(16, uint16_t) CUEMU_ATOMIC(32, uint32_t) CUEMU_ATOMIC(64, uint64_t)
void __tsan_read_range(void* p, size_t bytes) { cuemu::count_read(p, bytes); }
void __tsan_write_range(void* p, size_t bytes) { cuemu::count_written(p, bytes); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
}
#undef CUEMU_COUNTED
#undef CUEMU_ATOMIC
