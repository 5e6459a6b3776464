// Sums, differences, products and quotients of two arrays, one of which may be spread over the
// other; and the chain rule's products, 0 where x is 0 even if y is not finite, or 0 or nan.
//
// The launcher defines what pairs.cuh asks for.
#include "pairs.cuh"

struct Add { static __device__ __forceinline__ ACCUM of(ACCUM x, ACCUM y) { return x + y; } };
struct Subtract { static __device__ __forceinline__ ACCUM of(ACCUM x, ACCUM y) { return x - y; } };
struct Multiply { static __device__ __forceinline__ ACCUM of(ACCUM x, ACCUM y) { return x * y; } };
struct Divide { static __device__ __forceinline__ ACCUM of(ACCUM x, ACCUM y) { return x / y; } };
struct Chain {
    static __device__ __forceinline__ ACCUM of(ACCUM x, ACCUM y)
    {
        return x == 0 && y - y != 0 ? (ACCUM)0 : x * y;
    }
};
struct Quotient {
    static __device__ __forceinline__ ACCUM of(ACCUM x, ACCUM y)
    {
        return x == 0 && !(y < 0 || y > 0) ? (ACCUM)0 : x / y;
    }
};

extern "C" __global__ void add(
    const SCALAR* x, const SCALAR* y, SCALAR* z, long long size, long long x_period,
    long long y_period)
{
    join<Add>(x, y, z, size, x_period, y_period);
}

extern "C" __global__ void subtract(
    const SCALAR* x, const SCALAR* y, SCALAR* z, long long size, long long x_period,
    long long y_period)
{
    join<Subtract>(x, y, z, size, x_period, y_period);
}

extern "C" __global__ void multiply(
    const SCALAR* x, const SCALAR* y, SCALAR* z, long long size, long long x_period,
    long long y_period)
{
    join<Multiply>(x, y, z, size, x_period, y_period);
}

extern "C" __global__ void divide(
    const SCALAR* x, const SCALAR* y, SCALAR* z, long long size, long long x_period,
    long long y_period)
{
    join<Divide>(x, y, z, size, x_period, y_period);
}

extern "C" __global__ void chain(
    const SCALAR* x, const SCALAR* y, SCALAR* z, long long size, long long x_period,
    long long y_period)
{
    join<Chain>(x, y, z, size, x_period, y_period);
}

extern "C" __global__ void quotient(
    const SCALAR* x, const SCALAR* y, SCALAR* z, long long size, long long x_period,
    long long y_period)
{
    join<Quotient>(x, y, z, size, x_period, y_period);
}
