// Mathematics that CUDA has beyond C. The fast intrinsics are computed by the exact functions:
// their error on a device is not emulated.
#pragma once
#include <algorithm>

#define CUEMU_PI 3.14159265358979323846

inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return powf(10.0f, x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline void __sincosf(float x, float* s, float* c) { *s = sinf(x); *c = cosf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float fdividef(float x, float y) { return x / y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dsub_rn(double x, double y) { return x - y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __ddiv_rn(double x, double y) { return x / y; }
inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
inline float __saturatef(float x) { return !(x > 0.0f) ? 0.0f : x > 1.0f ? 1.0f : x; }

inline float rsqrtf(float x) { return (float)(1.0 / sqrt((double)x)); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline float rcbrtf(float x) { return 1.0f / cbrtf(x); }
inline float rcbrt(float x) { return rcbrtf(x); }
inline double rcbrt(double x) { return 1.0 / cbrt(x); }

// exact at multiples of 1/2, as CUDA's are: x is brought to [-1, 1] before it is multiplied by pi
inline void sincospi(double x, double* s, double* c) {
  double r = x - 2.0 * rint(0.5 * x), half = 2.0 * r;
  if (half == rint(half)) {
    int quarter = (int)half & 3;
    *s = quarter == 1 ? 1.0 : quarter == 3 ? -1.0 : 0.0;
    *c = quarter == 0 ? 1.0 : quarter == 2 ? -1.0 : 0.0;
  } else {
    *s = sin(CUEMU_PI * r);
    *c = cos(CUEMU_PI * r);
  }
}
inline double sinpi(double x) { double s, c; sincospi(x, &s, &c); return s; }
inline double cospi(double x) { double s, c; sincospi(x, &s, &c); return c; }
inline void sincospif(float x, float* s, float* c) {
  double sine, cosine;
  sincospi((double)x, &sine, &cosine);
  *s = (float)sine;
  *c = (float)cosine;
}
inline float sinpif(float x) { return (float)sinpi((double)x); }
inline float cospif(float x) { return (float)cospi((double)x); }
inline float sinpi(float x) { return sinpif(x); }
inline float cospi(float x) { return cospif(x); }
inline void sincospi(float x, float* s, float* c) { sincospif(x, s, c); }

// Inverses of the error function: a start (Giles 2012) and Newton steps in double.
inline double erfinv(double y) {
  if (!(y > -1.0 && y < 1.0)) return y == 1.0 ? HUGE_VAL : y == -1.0 ? -HUGE_VAL : __builtin_nan("");
  double w = -log((1.0 - y) * (1.0 + y)), a = 0.147, t = 2.0 / (CUEMU_PI * a) - 0.5 * w;
  double x = copysign(sqrt(sqrt(t * t + w / a) - t), y);
  for (int i = 0; i < 4; i++) x -= (erf(x) - y) / (2.0 / sqrt(CUEMU_PI) * exp(-x * x));
  return x;
}
inline float erfinvf(float y) { return (float)erfinv((double)y); }
inline float erfinv(float y) { return erfinvf(y); }
inline double normcdf(double x) { return 0.5 * erfc(-x * sqrt(0.5)); }
inline float normcdff(float x) { return (float)normcdf((double)x); }
inline float normcdf(float x) { return normcdff(x); }

// Loads and stores with a hint for the caches.
template <class T> inline T __ldg(const T* p) { return *p; }
template <class T> inline T __ldcs(const T* p) { return *p; }
template <class T> inline T __ldcg(const T* p) { return *p; }
template <class T> inline void __stcs(T* p, cuemu::identity<T> value) { *p = value; }
template <class T> inline void __stcg(T* p, cuemu::identity<T> value) { *p = value; }

// Bits and integers.
namespace cuemu {
template <class To, class From> inline To bits(From value) {
  static_assert(sizeof(To) == sizeof(From), "of one size");
  To result;
  memcpy(&result, &value, sizeof(To));
  return result;
}
}  // namespace cuemu
inline int __float_as_int(float x) { return cuemu::bits<int>(x); }
inline float __int_as_float(int x) { return cuemu::bits<float>(x); }
inline unsigned __float_as_uint(float x) { return cuemu::bits<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return cuemu::bits<float>(x); }
inline long long __double_as_longlong(double x) { return cuemu::bits<long long>(x); }
inline double __longlong_as_double(long long x) { return cuemu::bits<double>(x); }
inline int __float2int_rn(float x) { return (int)lrintf(x); }
inline int __float2int_rz(float x) { return (int)x; }
inline int __float2int_rd(float x) { return (int)floorf(x); }
inline int __float2int_ru(float x) { return (int)ceilf(x); }
inline float __int2float_rn(int x) { return (float)x; }
inline float __uint2float_rn(unsigned x) { return (float)x; }
inline float __double2float_rn(double x) { return (float)x; }
inline unsigned __umulhi(unsigned x, unsigned y) { return (unsigned)((uint64_t)x * y >> 32); }
inline int __mulhi(int x, int y) { return (int)((int64_t)x * y >> 32); }
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  return (unsigned long long)((unsigned __int128)x * y >> 64);
}
inline int __mul24(int x, int y) { return x * y; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; i++) reversed |= ((x >> i) & 1u) << (31 - i);
  return reversed;
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  uint64_t bytes = (uint64_t)y << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; i++) result |= (unsigned)(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
  return result;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return (unsigned)((((uint64_t)high << 32 | low) << (shift & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return (unsigned)(((uint64_t)high << 32 | low) >> (shift & 31));
}

// CUDA's min and max mix int with unsigned and float with double; others are ambiguous there too.
// Floats go by fmin and fmax: a nan loses.
namespace cuemu {
template <class A, class B> constexpr bool comparable =
    std::is_floating_point<A>::value ? std::is_floating_point<B>::value
                                     : std::is_integral<B>::value && sizeof(A) == sizeof(B);
}  // namespace cuemu
template <class A, class B> inline std::common_type_t<A, B> min(A a, B b) {
  static_assert(cuemu::comparable<A, B>, "min has no overload for these two types");
  using C = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point<C>::value) return std::fmin((C)a, (C)b);
  else return (C)b < (C)a ? (C)b : (C)a;
}
template <class A, class B> inline std::common_type_t<A, B> max(A a, B b) {
  static_assert(cuemu::comparable<A, B>, "max has no overload for these two types");
  using C = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point<C>::value) return std::fmax((C)a, (C)b);
  else return (C)a < (C)b ? (C)b : (C)a;
}
