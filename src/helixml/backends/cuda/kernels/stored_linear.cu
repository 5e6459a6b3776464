// y = x (scale W)^T + bias for a few vectors x; stored.cuh has the product.
#include "stored.cuh"

// x: (vectors, d), weight: (n, d), y: (vectors, n); a warp makes a column of y.
extern "C" __global__ void __launch_bounds__(THREADS) stored_linear(
    const SCALAR* __restrict__ x, const void* __restrict__ weight,
    const SCALAR* __restrict__ scale, const SCALAR* __restrict__ bias, SCALAR* __restrict__ y,
    int vectors, int n, int d)
{
    long long row = position() / WARP;
    if (row >= n) return;
    ACCUM sums[VECTORS];
    row_products(weight, row, x, vectors, d, d, sums);
    ACCUM factor = scale ? load(scale + row) : (ACCUM)1, added = bias ? load(bias + row) : (ACCUM)0;
    if (threadIdx.x % WARP) return;
#pragma unroll
    for (int i = 0; i < VECTORS; i++)
        if (i < vectors) store(y + (long long)i * n + row, sums[i] * factor + added);
}
