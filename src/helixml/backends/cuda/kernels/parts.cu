// Sums of partial results, in an order that depends on their number only: the same bits in every run.
#include "prelude.cuh"

#define TEAMS 8  // of a warp each, with which a block shares the parts of 32 sums

// total[o, i] = sum over p of parts[o, p, i]. A warp adds up every TEAMS-th part of neighbouring
// sums; then the teams' sums are added up.
extern "C" __global__ void __launch_bounds__(TEAMS * WARP) sum_parts(
    const ACCUM* __restrict__ parts, SCALAR* __restrict__ total, int count, long long inner,
    long long size)
{
    __shared__ ACCUM sums[TEAMS][WARP];
    int lane = threadIdx.x % WARP, team = threadIdx.x / WARP;
    for (long long first = (long long)blockIdx.x * WARP; first < size;
         first += (long long)gridDim.x * WARP) {
        long long at = first + lane;
        ACCUM sum = 0;
        if (at < size) {
            const ACCUM* part = parts + at / inner * count * inner + at % inner;
#pragma unroll 4
            for (int p = team; p < count; p += TEAMS) sum += part[p * inner];
        }
        sums[team][lane] = sum;
        __syncthreads();
        if (team == 0 && at < size) {
#pragma unroll
            for (int other = 1; other < TEAMS; other++) sum += sums[other][lane];
            store(total + at, sum);
        }
        __syncthreads();
    }
}
