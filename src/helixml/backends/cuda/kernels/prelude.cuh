// What every kernel begins with: the types of its numbers, and reading and writing them.
//
// A file is compiled once for each dtype. SCALAR is what arrays hold, ACCUM what is computed in:
// float, and double for double. load() and store() convert between the two; Pack moves 16 bytes at
// once where addresses allow it. The launcher reads the parameters of each kernel, so their types
// are spelled with the names SCALAR and ACCUM, int, unsigned, long long, unsigned long long, float,
// double and bool.
#ifndef HELIXML_PRELUDE
#define HELIXML_PRELUDE

// A warp is 32 lanes. Where the machine's has 64, as some of AMD's have, each half of it is a warp.
#define WARP 32

#if defined(__HIP__)
#include "hip.cuh"
#else
#define ALL_LANES 0xffffffffu
#if defined(SCALAR_FLOAT16)
#include <cuda_fp16.h>
typedef __half Half;
__device__ __forceinline__ float widened(Half x) { return __half2float(x); }
__device__ __forceinline__ void narrow(float x, Half& y) { y = __float2half_rn(x); }
#elif defined(SCALAR_BFLOAT16)
#include <cuda_bf16.h>
typedef __nv_bfloat16 Half;
__device__ __forceinline__ float widened(Half x) { return __bfloat162float(x); }
__device__ __forceinline__ void narrow(float x, Half& y) { y = __float2bfloat16_rn(x); }
#endif
#endif

#if defined(SCALAR_FLOAT64)
typedef double SCALAR;
typedef double ACCUM;
#elif defined(SCALAR_FLOAT32)
typedef float SCALAR;
typedef float ACCUM;
#elif defined(SCALAR_FLOAT16) || defined(SCALAR_BFLOAT16)
typedef Half SCALAR;
typedef float ACCUM;
#else
#error "the launcher names the dtype"
#endif

// Entries that 16 bytes hold
#define PACK (16 / (int)sizeof(SCALAR))

__device__ __forceinline__ float widened(float x) { return x; }
__device__ __forceinline__ double widened(double x) { return x; }
__device__ __forceinline__ void narrow(float x, float& y) { y = x; }
__device__ __forceinline__ void narrow(double x, double& y) { y = x; }

__device__ __forceinline__ ACCUM load(const SCALAR* from) { return (ACCUM)widened(*from); }

__device__ __forceinline__ void store(SCALAR* to, ACCUM value) { narrow(value, *to); }

// 16 bytes of entries, moved as one; the address must be a multiple of 16
struct alignas(16) Pack { SCALAR at[PACK]; };

__device__ __forceinline__ void load_pack(const SCALAR* from, ACCUM* values)
{
    Pack pack = *reinterpret_cast<const Pack*>(from);
#pragma unroll
    for (int i = 0; i < PACK; i++) values[i] = (ACCUM)widened(pack.at[i]);
}

__device__ __forceinline__ void store_pack(SCALAR* to, const ACCUM* values)
{
    Pack pack;
#pragma unroll
    for (int i = 0; i < PACK; i++) narrow(values[i], pack.at[i]);
    *reinterpret_cast<Pack*>(to) = pack;
}

// This thread's number in its block of one axis, and in the grid of one axis
__device__ __forceinline__ long long position()
{
    return (long long)blockIdx.x * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ long long positions() { return (long long)gridDim.x * blockDim.x; }

__device__ __forceinline__ float infinity() { return __uint_as_float(0x7f800000u); }

// Faster than / and exp by a few units in the last place, which 16-bit floats do not see at all
__device__ __forceinline__ float quotient(float a, float b) { return __fdividef(a, b); }
__device__ __forceinline__ double quotient(double a, double b) { return a / b; }

__device__ __forceinline__ float exponential(float x)
{
    return sizeof(SCALAR) == 2 ? __expf(x) : expf(x);
}
__device__ __forceinline__ double exponential(double x) { return exp(x); }

// Sine and cosine of pi x
__device__ __forceinline__ void half_turns(float x, float& sine, float& cosine)
{
    sincospif(x, &sine, &cosine);
}
__device__ __forceinline__ void half_turns(double x, double& sine, double& cosine)
{
    sincospi(x, &sine, &cosine);
}

__device__ __forceinline__ ACCUM larger(ACCUM a, ACCUM b) { return a < b ? b : a; }

#endif
