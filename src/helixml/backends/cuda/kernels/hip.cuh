// What AMD's compiler calls otherwise. Lanes are asked by width, for a wavefront may have 64, and
// need no mask: those of a wavefront take turns together.
#ifndef HELIXML_HIP
#define HELIXML_HIP

#undef __shfl_xor_sync
#undef __shfl_up_sync
#undef __syncwarp
#define __shfl_xor_sync(mask, value, distance) __shfl_xor(value, distance, WARP)
#define __shfl_up_sync(mask, value, distance) __shfl_up(value, distance, WARP)
#define __syncwarp() wavefront_barrier()

// The second number is of blocks with CUDA, but of warps with HIP: the compiler knows best
#undef __launch_bounds__
#define __launch_bounds__(...) WORK_GROUP(__VA_ARGS__, )
#define WORK_GROUP(threads, ...) __attribute__((amdgpu_flat_work_group_size(1, threads)))

__device__ __forceinline__ void wavefront_barrier()
{
    __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront");
    __builtin_amdgcn_wave_barrier();
}

#if defined(SCALAR_FLOAT16)
typedef _Float16 Half;
__device__ __forceinline__ float widened(Half x) { return (float)x; }
__device__ __forceinline__ void narrow(float x, Half& y) { y = (Half)x; }
#elif defined(SCALAR_BFLOAT16)
// The upper half of a float
struct Half { unsigned short bits; };
__device__ __forceinline__ float widened(Half x)
{
    return __uint_as_float((unsigned)x.bits << 16);
}
// To the nearest, ties to even; nan stays nan
__device__ __forceinline__ void narrow(float x, Half& y)
{
    unsigned bits = __float_as_uint(x);
    unsigned rounded = bits + 0x7fffu + (bits >> 16 & 1);
    y.bits = (x != x ? bits | 0x400000u : rounded) >> 16;
}
#endif

#endif
