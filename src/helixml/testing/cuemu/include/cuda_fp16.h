// CUDA's cuda_fp16.h, as far as kernels here use it. Mixed expressions of __half and float do not
// compile, as with the original: say __half2float.
#pragma once
#include "cuemu_narrow.h"

struct __half {
  unsigned short bits;
  __half() = default;
  __half(float x) : bits(cuemu::bits<unsigned short>((_Float16)x)) {}
  __half(double x) : bits(cuemu::bits<unsigned short>((_Float16)x)) {}
  __half(int x) : __half((float)x) {}
  operator float() const { return (float)cuemu::bits<_Float16>(bits); }
};
using half = __half;
CUEMU_NARROW(__half)
using half2 = __half2;

inline float __half2float(__half x) { return (float)x; }
inline __half __float2half(float x) { return __half(x); }
inline __half __float2half_rn(float x) { return __half(x); }
inline __half __double2half(double x) { return __half(x); }
inline __half __int2half_rn(int x) { return __half((double)x); }
inline int __half2int_rn(__half x) { return (int)lrintf((float)x); }
inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
inline __half2 __float2half2_rn(float x) { return {__half(x), __half(x)}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 __half2half2(__half x) { return {x, x}; }
inline __half2 make_half2(__half x, __half y) { return {x, y}; }
inline float2 __half22float2(__half2 x) { return {(float)x.x, (float)x.y}; }
inline __half2 __float22half2_rn(float2 x) { return {__half(x.x), __half(x.y)}; }
inline float __low2float(__half2 x) { return (float)x.x; }
inline float __high2float(__half2 x) { return (float)x.y; }
inline __half __low2half(__half2 x) { return x.x; }
inline __half __high2half(__half2 x) { return x.y; }
inline unsigned short __half_as_ushort(__half x) { return x.bits; }
inline __half __ushort_as_half(unsigned short x) { return cuemu::bits<__half>(x); }
