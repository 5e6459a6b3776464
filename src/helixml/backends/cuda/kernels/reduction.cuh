// Sums and maxima over a warp and over a block, in an order that depends on positions only.
//
// Every thread of the warp or block must call, and gets the result. Partners swap: lane i adds what
// lane i ^ 16 has, and so on; since a + b is b + a, all lanes end with the same bits. Blocks have
// one axis and whole warps, which the launcher sees to.
#ifndef HELIXML_REDUCTION
#define HELIXML_REDUCTION
#include "prelude.cuh"

struct Adding {
    template <class T> __device__ __forceinline__ T operator()(T a, T b) const { return a + b; }
};

struct Largest {
    template <class T> __device__ __forceinline__ T operator()(T a, T b) const
    {
        return a < b ? b : a;
    }
};

template <class T, class Join>
__device__ __forceinline__ T warp_joined(T value, Join join)
{
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        value = join(value, __shfl_xor_sync(ALL_LANES, value, distance));
    return value;
}

template <class T, class Join>
__device__ __forceinline__ T block_joined(T value, Join join, T neutral)
{
    __shared__ T parts[WARP];
    value = warp_joined(value, join);
    int warps = blockDim.x / WARP;
    if (warps == 1) return value;
    int lane = threadIdx.x % WARP;
    if (lane == 0) parts[threadIdx.x / WARP] = value;
    __syncthreads();
    value = lane < warps ? parts[lane] : neutral;
    value = warp_joined(value, join);
    __syncthreads();  // the next call writes parts
    return value;
}

template <class T> __device__ __forceinline__ T warp_sum(T value)
{
    return warp_joined(value, Adding());
}
template <class T> __device__ __forceinline__ T block_sum(T value)
{
    return block_joined(value, Adding(), (T)0);
}

template <class T> __device__ __forceinline__ T warp_max(T value)
{
    return warp_joined(value, Largest());
}
template <class T> __device__ __forceinline__ T block_max(T value)
{
    return block_joined(value, Largest(), -(T)infinity());
}

#endif
