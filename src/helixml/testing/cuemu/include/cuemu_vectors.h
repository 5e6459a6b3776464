// float4 and its kind, with CUDA's alignments: a load through a pointer that is not aligned is an
// error under the address sanitizer, as it is on a device.
#pragma once

#define CUEMU_VECTOR(NAME, T)                                                                \
  struct NAME##1 { T x; };                                                                   \
  inline NAME##1 make_##NAME##1(T x) { return {x}; }                                         \
  struct alignas(2 * sizeof(T)) NAME##2 { T x, y; };                                         \
  inline NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }                                 \
  CUEMU_VECTOR3(NAME, T)                                                                     \
  inline NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; }                         \
  struct alignas(sizeof(T) > 4 ? 16 : 4 * sizeof(T)) NAME##4 { T x, y, z, w; };              \
  inline NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }
#define CUEMU_VECTOR3(NAME, T) struct NAME##3 { T x, y, z; };
CUEMU_VECTOR(char, signed char)
CUEMU_VECTOR(uchar, unsigned char)
CUEMU_VECTOR(short, short)
CUEMU_VECTOR(ushort, unsigned short)
CUEMU_VECTOR(int, int)
CUEMU_VECTOR(long, long)
CUEMU_VECTOR(ulong, unsigned long)
CUEMU_VECTOR(longlong, long long)
CUEMU_VECTOR(ulonglong, unsigned long long)
CUEMU_VECTOR(float, float)
CUEMU_VECTOR(double, double)
#undef CUEMU_VECTOR3
#define CUEMU_VECTOR3(NAME, T)  // uint3 is the type of threadIdx
CUEMU_VECTOR(uint, unsigned)
#undef CUEMU_VECTOR3
#undef CUEMU_VECTOR
