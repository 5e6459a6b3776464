// Atomics are the processor's own, so that ThreadSanitizer takes them for what they are. Only the
// types that CUDA has overloads for are accepted (compute capability 8.0).
#pragma once

namespace cuemu {

using u64 = unsigned long long;

// Replace *address by change(*address); returns the old value.
template <class T, class F> inline T replace(T* address, F change) {
  using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint16_t>>;
  static_assert(sizeof(Bits) == sizeof(T), "2, 4 or 8 bytes");
  Bits* cell = reinterpret_cast<Bits*>(address);
  Bits before = __atomic_load_n(cell, __ATOMIC_RELAXED), after;
  T old, fresh;
  do {
    memcpy(&old, &before, sizeof(T));
    fresh = change(old);
    memcpy(&after, &fresh, sizeof(T));
  } while (!__atomic_compare_exchange_n(cell, &before, after, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}

}  // namespace cuemu

#define CUEMU_ATOMIC(NAME, EXPRESSION, ...)                                            \
  template <class T> inline T NAME(T* address, cuemu::identity<T> value) {             \
    static_assert(cuemu::one_of<T, __VA_ARGS__>, #NAME " has no overload for this type"); \
    return cuemu::replace(address, [&](T old) { return (T)(EXPRESSION); });            \
  }
CUEMU_ATOMIC(atomicAdd, old + value, int, unsigned, cuemu::u64, float, double, __half, __nv_bfloat16)
CUEMU_ATOMIC(atomicSub, old - value, int, unsigned)
CUEMU_ATOMIC(atomicMax, old > value ? old : value, int, unsigned, long long, cuemu::u64)
CUEMU_ATOMIC(atomicMin, old < value ? old : value, int, unsigned, long long, cuemu::u64)
CUEMU_ATOMIC(atomicExch, value, int, unsigned, cuemu::u64, float)
CUEMU_ATOMIC(atomicAnd, old & value, int, unsigned, cuemu::u64)
CUEMU_ATOMIC(atomicOr, old | value, int, unsigned, cuemu::u64)
CUEMU_ATOMIC(atomicXor, old ^ value, int, unsigned, cuemu::u64)
CUEMU_ATOMIC(atomicInc, old >= value ? 0 : old + 1, unsigned)
CUEMU_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1, unsigned)
#undef CUEMU_ATOMIC

template <class T> inline T atomicCAS(T* address, cuemu::identity<T> expected, cuemu::identity<T> value) {
  static_assert(cuemu::one_of<T, int, unsigned, unsigned short, cuemu::u64>, "atomicCAS has no overload for this type");
  return cuemu::replace(address, [&](T old) { return old == expected ? (T)value : old; });
}
