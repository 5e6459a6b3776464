// Barriers, votes and shuffles. Each passes the source line on, for the error messages.
#pragma once

#define CUEMU_LINE int line = __builtin_LINE()

inline void __syncthreads(CUEMU_LINE) { cuemu::barrier(line, 0, nullptr); }
inline int __syncthreads_count(int predicate, CUEMU_LINE) {
  int count;
  cuemu::barrier(line, predicate != 0, &count);
  return count;
}
inline int __syncthreads_or(int predicate, CUEMU_LINE) { return __syncthreads_count(predicate, line) != 0; }
inline int __syncthreads_and(int predicate, CUEMU_LINE) { return __syncthreads_count(!predicate, line) == 0; }

inline void __syncwarp(unsigned mask = 0xffffffffu, CUEMU_LINE) {
  cuemu::collective(cuemu::SYNC, mask, 0, 0, line);
}
inline unsigned __activemask() { return cuemu::active_mask(); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

// The lane that a shuffle reads: within the reader's part of `width` lanes, else its own.
template <class T> inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, CUEMU_LINE) {
  int lane = cuemu::lane();
  return cuemu::shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)), line);
}
template <class T> inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, CUEMU_LINE) {
  int lane = cuemu::lane();
  bool inside = (lane & (width - 1)) + (int)delta < width;
  return cuemu::shuffle(mask, value, inside ? lane + (int)delta : lane, line);
}
template <class T> inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, CUEMU_LINE) {
  int lane = cuemu::lane();
  bool inside = (lane & (width - 1)) >= (int)delta;
  return cuemu::shuffle(mask, value, inside ? lane - (int)delta : lane, line);
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, CUEMU_LINE) {
  int lane = cuemu::lane(), source = lane ^ bits;
  bool inside = (source & ~(width - 1)) <= (lane & ~(width - 1));
  return cuemu::shuffle(mask, value, inside ? source : lane, line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, CUEMU_LINE) {
  return (unsigned)cuemu::collective(cuemu::BALLOT, mask, predicate != 0, 0, line);
}
inline int __any_sync(unsigned mask, int predicate, CUEMU_LINE) {
  return (int)cuemu::collective(cuemu::ANY, mask, predicate != 0, 0, line);
}
inline int __all_sync(unsigned mask, int predicate, CUEMU_LINE) {
  return (int)cuemu::collective(cuemu::ALL, mask, predicate != 0, 0, line);
}
// Of compute capability 8.0 and later.
template <class T> inline T __reduce_add_sync(unsigned mask, T value, CUEMU_LINE) {
  static_assert(std::is_same<T, int>::value || std::is_same<T, unsigned>::value, "int or unsigned");
  return (T)cuemu::collective(cuemu::ADD, mask, (uint64_t)(int64_t)value, 0, line);
}
template <class T> inline T __reduce_min_sync(unsigned mask, T value, CUEMU_LINE) {
  static_assert(std::is_same<T, int>::value || std::is_same<T, unsigned>::value, "int or unsigned");
  return (T)cuemu::collective(cuemu::MINIMUM, mask, (uint64_t)(int64_t)value, 0, line);
}
template <class T> inline T __reduce_max_sync(unsigned mask, T value, CUEMU_LINE) {
  static_assert(std::is_same<T, int>::value || std::is_same<T, unsigned>::value, "int or unsigned");
  return (T)cuemu::collective(cuemu::MAXIMUM, mask, (uint64_t)(int64_t)value, 0, line);
}
#undef CUEMU_LINE
