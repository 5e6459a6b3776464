// Sums over the rows of a matrix of few rows: a block takes 32 columns, each warp of it every
// 32nd row, and the sums of the warps are added in their order.
#include "prelude.cuh"

extern "C" __global__ void __launch_bounds__(1024) column_sums(
    const ACCUM* x, SCALAR* y, long long rows, long long columns)
{
    __shared__ ACCUM sums[WARP][WARP + 1];
    int lane = threadIdx.x % WARP;
    int warp = threadIdx.x / WARP;
    long long column = (long long)blockIdx.x * WARP + lane;
    ACCUM sum = 0;
    if (column < columns)
        for (long long r = warp; r < rows; r += blockDim.x / WARP) sum += x[r * columns + column];
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && column < columns) {
        sum = 0;
        for (int w = 0; w < blockDim.x / WARP; w++) sum += sums[w][lane];
        store(y + column, sum);
    }
}
