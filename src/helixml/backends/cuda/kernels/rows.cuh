// Rows of a matrix, each walked by a warp or by a block, and kept in registers if it fits there.
//
// The launcher (rows.py) defines: WIDTH, the entries that a thread reads at once, PACK or 1; ITEMS,
// how often it does so for a row, 0 for a row that is read anew in each pass; TEAM_IS_WARP.
#ifndef HELIXML_ROWS
#define HELIXML_ROWS
#include "reduction.cuh"

// Threads of a block, so that registers are enough for each; rows.py holds to it
#define ROW_THREADS (ITEMS > 0 ? 512 : 1024)
#define KEPT (ITEMS > 0 ? ITEMS * WIDTH : WIDTH)

struct Row {
    long long number;  // of the row that comes first
    long long step;    // between the rows of this team
    int lane;
    int lanes;
    long long items;

    __device__ __forceinline__ Row(long long columns)
    {
        lane = TEAM_IS_WARP ? threadIdx.x % WARP : threadIdx.x;
        lanes = TEAM_IS_WARP ? WARP : blockDim.x;
        int teams = TEAM_IS_WARP ? blockDim.x / WARP : 1;
        number = (long long)blockIdx.x * teams + (TEAM_IS_WARP ? threadIdx.x / WARP : 0);
        step = (long long)gridDim.x * teams;
        items = columns / WIDTH;
    }

    // Call visit(k, i) for each item i of this thread; what it keeps lies behind k * WIDTH
    template <class Visit> __device__ __forceinline__ void each(Visit visit) const
    {
        if (ITEMS > 0) {
#pragma unroll
            for (int k = 0; k < ITEMS; k++) {
                long long i = lane + (long long)k * lanes;
                if (i < items) visit(k, i);
            }
        } else {
            for (long long i = lane; i < items; i += lanes) visit(0, i);
        }
    }
};

__device__ __forceinline__ void load_item(const SCALAR* row, long long i, ACCUM* values)
{
    if (WIDTH == 1) values[0] = load(row + i);
    else load_pack(row + i * WIDTH, values);
}

__device__ __forceinline__ void store_item(SCALAR* row, long long i, const ACCUM* values)
{
    if (WIDTH == 1) store(row + i, values[0]);
    else store_pack(row + i * WIDTH, values);
}

template <class T> __device__ __forceinline__ T row_sum(T value)
{
    return TEAM_IS_WARP ? warp_sum(value) : block_sum(value);
}

template <class T> __device__ __forceinline__ T row_max(T value)
{
    return TEAM_IS_WARP ? warp_max(value) : block_max(value);
}

#endif
