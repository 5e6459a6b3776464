// Sums along an axis: x is (outer, count, inner), y (outer, inner).
//
// Where there are few sums for the device, the axis is split into chunks whose sums are parts,
// (outer, splits, inner) in ACCUM, and the parts are added up by sum_parts. PACKED says whether
// entries are read in packs.
#include "reduction.cuh"

#define LINES 8

__device__ __forceinline__ void put(
    ACCUM sum, ACCUM* parts, SCALAR* y, long long part, long long place)
{
    if (parts) parts[part] = sum;
    else store(y + place, sum);
}

// inner is 1: a row is a team's, blockIdx.y is its chunk
extern "C" __global__ void __launch_bounds__(256) sum_rows(
    const SCALAR* x, ACCUM* parts, SCALAR* y, long long rows, long long count, long long chunk)
{
    const int STEP = PACKED ? PACK : 1;
    int lane = TEAM_IS_WARP ? threadIdx.x % WARP : threadIdx.x;
    int lanes = TEAM_IS_WARP ? WARP : blockDim.x;
    long long row = TEAM_IS_WARP ? position() / WARP : blockIdx.x;
    if (row >= rows) return;
    long long first = chunk * blockIdx.y;
    long long last = first + chunk < count ? first + chunk : count;
    const SCALAR* from = x + row * count;
    ACCUM sums[STEP];
#pragma unroll
    for (int j = 0; j < STEP; j++) sums[j] = 0;
#pragma unroll 4
    for (long long i = first + (long long)lane * STEP; i < last; i += (long long)lanes * STEP) {
        ACCUM values[STEP];
        if (STEP > 1) load_pack(from + i, values);
        else values[0] = load(from + i);
#pragma unroll
        for (int j = 0; j < STEP; j++) sums[j] += values[j];
    }
    ACCUM sum = 0;
#pragma unroll
    for (int j = 0; j < STEP; j++) sum += sums[j];
    sum = TEAM_IS_WARP ? warp_sum(sum) : block_sum(sum);
    if (lane == 0) put(sum, parts, y, row * gridDim.y + blockIdx.y, row);
}

// A block takes 32 packs of columns, each line of threads every LINES-th row of a chunk; the sums
// of the lines are added in their order
extern "C" __global__ void __launch_bounds__(256) sum_columns(
    const SCALAR* x, ACCUM* parts, SCALAR* y, long long count, long long inner, long long chunk)
{
    const int STEP = PACKED ? PACK : 1;
    __shared__ ACCUM shared[LINES][WARP * STEP];
    int lane = threadIdx.x % WARP;
    int line = threadIdx.x / WARP;
    long long column = ((long long)blockIdx.x * WARP + lane) * STEP;
    long long outer = blockIdx.z;
    long long first = chunk * blockIdx.y;
    long long last = first + chunk < count ? first + chunk : count;
    const SCALAR* from = x + outer * count * inner + column;
    ACCUM sums[STEP];
#pragma unroll
    for (int j = 0; j < STEP; j++) sums[j] = 0;
    if (column < inner) {
#pragma unroll 4
        for (long long r = first + line; r < last; r += LINES) {
            ACCUM values[STEP];
            if (STEP > 1) load_pack(from + r * inner, values);
            else values[0] = load(from + r * inner);
#pragma unroll
            for (int j = 0; j < STEP; j++) sums[j] += values[j];
        }
    }
#pragma unroll
    for (int j = 0; j < STEP; j++) shared[line][lane * STEP + j] = sums[j];
    __syncthreads();
    for (int k = threadIdx.x; k < WARP * STEP; k += blockDim.x) {
        long long mine = (long long)blockIdx.x * WARP * STEP + k;
        if (mine >= inner) break;
        ACCUM sum = 0;
#pragma unroll
        for (int other = 0; other < LINES; other++) sum += shared[other][k];
        put(sum, parts, y, (outer * gridDim.y + blockIdx.y) * inner + mine, outer * inner + mine);
    }
}

// parts is (outer, splits, inner)
extern "C" __global__ void __launch_bounds__(256) sum_parts(
    const ACCUM* parts, SCALAR* y, long long outer, long long splits, long long inner)
{
    for (long long i = position(); i < outer * inner; i += positions()) {
        const ACCUM* from = parts + (i / inner) * splits * inner + i % inner;
        ACCUM sum = 0;
#pragma unroll 8
        for (long long k = 0; k < splits; k++) sum += from[k * inner];
        store(y + i, sum);
    }
}
