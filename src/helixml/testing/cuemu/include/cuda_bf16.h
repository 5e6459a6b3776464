// CUDA's cuda_bf16.h, as far as kernels here use it.
#pragma once
#include "cuemu_narrow.h"

struct __nv_bfloat16 {
  unsigned short data;
  __nv_bfloat16() = default;
  // to the nearest, ties to even; a nan keeps its sign and stays one
  __nv_bfloat16(float x) {
    unsigned u = __float_as_uint(x);
    data = x != x ? (unsigned short)(u >> 16 | 0x40) : (unsigned short)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
  }
  // to odd first, or the second rounding would not see what the first one lost
  __nv_bfloat16(double x) {
    float y = (float)x;
    if (y == y && (double)y != x && !std::isinf(y)) {
      if (fabs((double)y) > fabs(x)) y = nextafterf(y, 0.0f);
      y = __uint_as_float(__float_as_uint(y) | 1u);
    }
    *this = __nv_bfloat16(y);
  }
  __nv_bfloat16(int x) : __nv_bfloat16((double)x) {}
  operator float() const { return __uint_as_float((unsigned)data << 16); }
};
CUEMU_NARROW(__nv_bfloat16)

inline float __bfloat162float(__nv_bfloat16 x) { return (float)x; }
inline __nv_bfloat16 __float2bfloat16(float x) { return __nv_bfloat16(x); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return __nv_bfloat16(x); }
inline __nv_bfloat16 __double2bfloat16(double x) { return __nv_bfloat16(x); }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__nv_bfloat16(x), __nv_bfloat16(y)}; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 x) { return {x, x}; }
inline float2 __bfloat1622float2(__nv_bfloat162 x) { return {(float)x.x, (float)x.y}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 x) { return {__nv_bfloat16(x.x), __nv_bfloat16(x.y)}; }
inline float __low2float(__nv_bfloat162 x) { return (float)x.x; }
inline float __high2float(__nv_bfloat162 x) { return (float)x.y; }
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 x) { return x.x; }
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 x) { return x.y; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.data; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short x) { return cuemu::bits<__nv_bfloat16>(x); }
