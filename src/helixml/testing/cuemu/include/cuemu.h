// The words of CUDA C++, for g++. Included before a kernel's source, which stays as it is but for
// its __shared__ declarations (see transform.py). How threads take turns is in runtime.cc.
#pragma once
// math.h and stdlib.h of C++: exp(float) and abs(float) are floats, in the global namespace
#include <math.h>
#include <stdlib.h>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __CUDACC__ 1
#define __CUDA_ARCH__ 800
#define CUEMU 1
#define warpSize 32
#define __builtin_assume(condition)

using std::size_t;

struct __half;
struct __half2;
struct __nv_bfloat16;
struct __nv_bfloat162;

struct uint3 { unsigned x, y, z; };
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

namespace cuemu {

// What a thread can see of its place; the scheduler changes the pointer when threads take turns.
struct View { uint3 thread; uint3 block; dim3 block_size; dim3 grid_size; };
extern View* view;

enum Collective { SHUFFLE, BALLOT, ANY, ALL, SYNC, ADD, MINIMUM, MAXIMUM };

void barrier(int line, int predicate, int* count);
uint64_t collective(Collective what, unsigned mask, uint64_t value, int source, int line);
void* shared_static(void* key, size_t bytes, size_t align, int line);
void* shared_dynamic(int line);
unsigned lane();
unsigned active_mask();

// key: one a declaration and instance of a template, as each has memory of its own
template <class T> inline T& shared_variable(void* key, size_t align, int line) {
  return *reinterpret_cast<T*>(shared_static(key, sizeof(T), align > alignof(T) ? align : alignof(T), line));
}
template <class T> inline T* shared_array(int line) { return reinterpret_cast<T*>(shared_dynamic(line)); }

template <class T, class... Types> constexpr bool one_of = (std::is_same<T, Types>::value || ...);
template <class T> constexpr bool shuffled =
    std::is_arithmetic<T>::value || one_of<T, __half, __half2, __nv_bfloat16, __nv_bfloat162>;

template <class T> inline T shuffle(unsigned mask, T value, int source, int line) {
  static_assert(shuffled<T>, "shuffles take int, unsigned, long long, float, double, __half and their like");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  bits = collective(SHUFFLE, mask, bits, source, line);
  memcpy(&value, &bits, sizeof(T));
  return value;
}

template <class T> struct Identity { using type = T; };  // not deduced: values convert to the pointer's type
template <class T> using identity = typename Identity<T>::type;

}  // namespace cuemu

#define threadIdx (cuemu::view->thread)
#define blockIdx (cuemu::view->block)
#define blockDim (cuemu::view->block_size)
#define gridDim (cuemu::view->grid_size)

#include "cuemu_synchronize.h"
#include "cuemu_atomics.h"
#include "cuemu_vectors.h"
#include "cuemu_math.h"
#include "cuemu_launch.h"
