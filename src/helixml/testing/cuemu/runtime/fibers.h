// Fibers: stacks that threads of a kernel run on, and the switch between them and the scheduler.
// Twelve instructions on x86-64; ucontext elsewhere and under the sanitizers, which are told.
#pragma once
#include <sys/mman.h>
#include <ucontext.h>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#if defined(CUEMU_TSAN)
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned);
void __tsan_destroy_fiber(void*);
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_set_fiber_name(void*, const char*);
void __tsan_acquire(void*);
void __tsan_release(void*);
}
#endif
#if defined(CUEMU_ASAN)
extern "C" {
void __sanitizer_start_switch_fiber(void**, const void*, size_t);
void __sanitizer_finish_switch_fiber(void*, const void**, size_t*);
void __asan_unpoison_memory_region(const volatile void*, size_t);
}
#endif
#if defined(__x86_64__) && !defined(CUEMU_TSAN) && !defined(CUEMU_ASAN)
#define CUEMU_ASSEMBLY 1
// save the registers that a callee keeps, change stacks, restore
asm(".text\n"
    ".hidden cuemu_switch\n.globl cuemu_switch\n.type cuemu_switch,@function\n"
    "cuemu_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n");
extern "C" void cuemu_switch(void** save, void* to);
#endif

namespace cuemu {

#if defined(CUEMU_ASAN)
constexpr size_t STACK = 256 << 10;  // red zones
#else
constexpr size_t STACK = 64 << 10;
#endif
constexpr size_t GUARD = 512 << 10;  // below each stack, addresses alone: running over it is a fault

struct Fiber {
  char* stack = nullptr;
#ifdef CUEMU_ASSEMBLY
  void* stack_pointer;
#else
  ucontext_t context;
#endif
  void* sanitizer = nullptr;  // what TSan or ASan know it by
};

static Fiber scheduler;
static const void* scheduler_bottom;
static size_t scheduler_size;

constexpr unsigned MOST = 1024;  // threads of a block

// Stacks for a number of fibers, each above its guard.
static char* new_stacks(unsigned count) {
  size_t bytes = (STACK + GUARD) * count;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) abort();
  char* start = static_cast<char*>(memory);
  for (unsigned i = 0; i < count; i++) mprotect(start + i * (STACK + GUARD), GUARD, PROT_NONE);
  return start;
}
static char* stack_of(char* stacks, unsigned number) { return stacks + number * (STACK + GUARD) + GUARD; }

// Make the fiber begin at `entry` when it is entered next.
static void prepare(Fiber* f, void (*entry)()) {
#ifdef CUEMU_ASSEMBLY
  void** top = reinterpret_cast<void**>(f->stack + STACK);
  *--top = nullptr;  // no return address, and the alignment that a call leaves
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; i++) *--top = nullptr;
  f->stack_pointer = top;
#else
  getcontext(&f->context);
  f->context.uc_stack.ss_sp = f->stack;
  f->context.uc_stack.ss_size = STACK;
  f->context.uc_link = nullptr;
  makecontext(&f->context, entry, 0);
  f->sanitizer = nullptr;
#endif
#if defined(CUEMU_ASAN)
  __asan_unpoison_memory_region(f->stack, STACK);  // a kernel may have been left in the middle of it
#endif
}

// TSan's switches carry the flag "no synchronisation": threads of a kernel know nothing of each other.
static void enter(Fiber* f) {
#if defined(CUEMU_TSAN)
  __tsan_switch_to_fiber(f->sanitizer, 1);
#elif defined(CUEMU_ASAN)
  __sanitizer_start_switch_fiber(&scheduler.sanitizer, f->stack, STACK);
#endif
#ifdef CUEMU_ASSEMBLY
  cuemu_switch(&scheduler.stack_pointer, f->stack_pointer);
#else
  swapcontext(&scheduler.context, &f->context);
#endif
#if defined(CUEMU_ASAN)
  __sanitizer_finish_switch_fiber(scheduler.sanitizer, nullptr, nullptr);
#endif
}

static void leave(Fiber* f) {
#if defined(CUEMU_TSAN)
  __tsan_switch_to_fiber(scheduler.sanitizer, 1);
#elif defined(CUEMU_ASAN)
  __sanitizer_start_switch_fiber(&f->sanitizer, scheduler_bottom, scheduler_size);
#endif
#ifdef CUEMU_ASSEMBLY
  cuemu_switch(&f->stack_pointer, scheduler.stack_pointer);
#else
  swapcontext(&f->context, &scheduler.context);
#endif
#if defined(CUEMU_ASAN)
  __sanitizer_finish_switch_fiber(f->sanitizer, &scheduler_bottom, &scheduler_size);
#endif
}

// The first thing that a fiber does.
static void entered() {
#if defined(CUEMU_ASAN)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_bottom, &scheduler_size);
#endif
}

}  // namespace cuemu
