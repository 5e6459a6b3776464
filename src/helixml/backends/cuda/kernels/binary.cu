// Sums, differences, products and quotients of two arrays, one of which may be spread over the
// other; and the chain rule's products, 0 where x is 0 even if y is not finite, or 0 or nan.
//
// An operand is walked entry by entry (0), again and again (1: entry i % period), with each entry
// repeated (2: i / period), or is a single number (3). The launcher defines X_WALK and Y_WALK;
// PACKED, whether all is moved in packs, which a period must be a multiple of; INDEX.
#include "prelude.cuh"

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

// Read the entries from i on; a pack at once if STEP is more than 1
template <int WALK, int STEP>
__device__ __forceinline__ void fetch(const SCALAR* x, INDEX i, INDEX period, ACCUM* values)
{
    INDEX at = WALK == 0 ? i : WALK == 1 ? i % period : WALK == 2 ? i / period : 0;
    if (STEP > 1 && WALK < 2) {
        load_pack(x + at, values);
    } else {
        values[0] = load(x + at);
#pragma unroll
        for (int j = 1; j < STEP; j++) values[j] = values[0];
    }
}

template <class Operation>
__device__ __forceinline__ void join(
    const SCALAR* x, const SCALAR* y, SCALAR* z, INDEX size, INDEX x_period, INDEX y_period)
{
    const int STEP = PACKED ? PACK : 1;
    for (INDEX i = (INDEX)position() * STEP; i < size; i += (INDEX)positions() * STEP) {
        ACCUM left[STEP];
        ACCUM right[STEP];
        fetch<X_WALK, STEP>(x, i, x_period, left);
        fetch<Y_WALK, STEP>(y, i, y_period, right);
#pragma unroll
        for (int j = 0; j < STEP; j++) left[j] = Operation::of(left[j], right[j]);
        if (STEP > 1) store_pack(z + i, left);
        else store(z + i, left[0]);
    }
}

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
