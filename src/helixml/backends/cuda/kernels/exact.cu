// Functions of two floats that CuPy has too, but with other values than NumPy: division with a
// remainder, where an operand is 0 or infinite, and the neighbours of infinities.
//
// The launcher defines what pairs.cuh asks for. Compiled by CuPy, arithmetic in float takes numbers
// below 2^-126 for 0; neighbours are found without arithmetic.
#include "pairs.cuh"

#if defined(SCALAR_FLOAT64)
typedef unsigned long long WORD;
#define INFINITE 0x7ff0000000000000ull
#elif defined(SCALAR_FLOAT32)
typedef unsigned WORD;
#define INFINITE 0x7f800000u
#elif defined(SCALAR_FLOAT16)
typedef unsigned short WORD;
#define INFINITE 0x7c00u
#else
typedef unsigned short WORD;
#define INFINITE 0x7f80u
#endif
#define SIGN ((WORD)((WORD)1 << (8 * sizeof(WORD) - 1)))

// Whether y is taken once more, so that what is left has its sign
__device__ __forceinline__ bool turns(ACCUM left, ACCUM y)
{
    return left != 0 && (left < 0) != (y < 0);
}

// What is left of x when y is taken from it a whole number of times; it has the sign of y
struct Remainder {
    static __device__ __forceinline__ ACCUM of(ACCUM x, ACCUM y)
    {
        ACCUM left = fmod(x, y);
        return left == 0 ? copysign((ACCUM)0, y) : turns(left, y) ? left + y : left;
    }
};

// How often that is. x - left is a multiple of y, up to rounding, and 0 where y is infinite
struct FloorDivide {
    static __device__ __forceinline__ ACCUM of(ACCUM x, ACCUM y)
    {
        if (y == 0) return x / y;
        ACCUM left = fmod(x, y);
        ACCUM times = rint((x - left) / y - (turns(left, y) ? 1 : 0));
        return times == 0 ? copysign((ACCUM)0, x / y) : times;
    }
};

// The number after x towards y, as bits: apart from the sign they count the numbers from 0 on
__device__ __forceinline__ WORD neighbour(WORD x, WORD y)
{
    WORD far = x & ~SIGN, target = y & ~SIGN;
    if (far > INFINITE || target > INFINITE) return INFINITE | INFINITE >> 1;  // nan
    if (x == y || !(far | target)) return y;
    if (!far) return (y & SIGN) | 1;
    return (x & SIGN) == (y & SIGN) && far < target ? x + 1 : x - 1;
}

extern "C" __global__ void floor_divide(
    const SCALAR* x, const SCALAR* y, SCALAR* z, long long size, long long x_period,
    long long y_period)
{
    join<FloorDivide>(x, y, z, size, x_period, y_period);
}

extern "C" __global__ void modulo(
    const SCALAR* x, const SCALAR* y, SCALAR* z, long long size, long long x_period,
    long long y_period)
{
    join<Remainder>(x, y, z, size, x_period, y_period);
}

extern "C" __global__ void next_after(
    const SCALAR* x, const SCALAR* y, SCALAR* z, long long size, long long x_period,
    long long y_period)
{
    const WORD* left = reinterpret_cast<const WORD*>(x);
    const WORD* right = reinterpret_cast<const WORD*>(y);
    for (long long i = position(); i < size; i += positions())
        reinterpret_cast<WORD*>(z)[i] = neighbour(
            left[place<X_WALK>(i, x_period)], right[place<Y_WALK>(i, y_period)]);
}
