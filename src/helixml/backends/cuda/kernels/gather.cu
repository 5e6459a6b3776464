// Rows taken by index, rows side by side, and rows added up by target.
//
// `take` and `concat` move units of UNIT bytes, whatever they hold; an index that is out of range reads nothing
// and gives zeros. `scatter_add` is given the order that sorts the targets, and adds rows up in
// that order; what no row has as its target keeps the zeros that it has.
#include "prelude.cuh"

#define SEGMENT 16  // rows, as in gather.py
#define GROUP 4     // rows that are read before they are added

#if UNIT == 16
struct alignas(16) Moved { unsigned long long parts[2]; };
#elif UNIT == 8
typedef unsigned long long Moved;
#elif UNIT == 4
typedef unsigned Moved;
#elif UNIT == 2
typedef unsigned short Moved;
#else
typedef unsigned char Moved;
#endif

// x is (outer, size, inner) and y (outer, count, inner); each line of LANES threads moves a row
extern "C" __global__ void take(
    const void* x, const long long* indices, void* y, long long outer, long long size,
    long long count, long long inner)
{
    const Moved* from = reinterpret_cast<const Moved*>(x);
    Moved* to = reinterpret_cast<Moved*>(y);
    int lane = threadIdx.x % LANES;
    long long lines = blockDim.x / LANES;
    long long rows = outer * count;
    for (long long r = blockIdx.x * lines + threadIdx.x / LANES; r < rows; r += gridDim.x * lines) {
        long long index = indices[r % count];
        if (index < 0) index += size;
        bool is_there = index >= 0 && index < size;
        const Moved* source = from + ((r / count) * size + (is_there ? index : 0)) * inner;
        for (long long i = lane; i < inner; i += LANES) {
            Moved unit = Moved();
            if (is_there) unit = source[i];
            to[r * inner + i] = unit;
        }
    }
}

// y (outer, sum of widths) is a row of each array after the other; what there is not is 0 wide
extern "C" __global__ void concat(
    const void* a, const void* b, const void* c, const void* d, void* y, long long outer,
    long long a_width, long long b_width, long long c_width, long long d_width)
{
    const void* arrays[4] = {a, b, c, d};
    const long long widths[4] = {a_width, b_width, c_width, d_width};
    const long long width = a_width + b_width + c_width + d_width;
    Moved* to = reinterpret_cast<Moved*>(y);
    for (long long i = position(); i < outer * width; i += positions()) {
        long long row = i / width, column = i % width;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            if (column >= 0 && column < widths[k])
                to[i] = reinterpret_cast<const Moved*>(arrays[k])[row * widths[k] + column];
            column -= widths[k];
        }
    }
}

// Rows of one target are a run. A thread adds up one item of columns of SEGMENT sorted rows, and
// writes the sum of each run: to its target if the run lies in the segment, else to the edges,
// (segments, 2, width), first that of a run from before, then that of one which goes on.
struct Segment {
    long long first;
    long long last;

    __device__ __forceinline__ Segment(long long number, long long count)
    {
        first = number * SEGMENT;
        last = first + SEGMENT < count ? first + SEGMENT : count;
    }
};

extern "C" __global__ void __launch_bounds__(256) scatter_add(
    const SCALAR* rows, const long long* targets, const long long* order, SCALAR* sums,
    ACCUM* edges, long long count, long long width, long long size)
{
    Segment mine(blockIdx.x, count);
    long long column = ((long long)blockIdx.y * blockDim.x + threadIdx.x) * WIDTH;
    if (column >= width) return;
    ACCUM sum[WIDTH];
    ACCUM ahead[GROUP][WIDTH];
    long long start = mine.first;  // of the run
#pragma unroll
    for (int j = 0; j < WIDTH; j++) sum[j] = 0;
    for (long long group = mine.first; group < mine.last; group += GROUP) {
#pragma unroll
        for (int k = 0; k < GROUP; k++)
            if (group + k < mine.last) {
                const SCALAR* from = rows + order[group + k] * width + column;
                if (WIDTH > 1) load_pack(from, ahead[k]);
                else ahead[k][0] = load(from);
            }
#pragma unroll
        for (int k = 0; k < GROUP; k++) {
            long long r = group + k;
            if (r >= mine.last) continue;
#pragma unroll
            for (int j = 0; j < WIDTH; j++) sum[j] += ahead[k][j];
            long long target = targets[r];
            bool goes_on = r + 1 < count && targets[r + 1] == target;
            if (goes_on && r + 1 < mine.last) continue;
            bool came_before = start == mine.first && start > 0 && targets[start - 1] == target;
            if (came_before || goes_on) {
                ACCUM* edge = edges + (blockIdx.x * 2ll + (came_before ? 0 : 1)) * width + column;
#pragma unroll
                for (int j = 0; j < WIDTH; j++) edge[j] = sum[j];
            } else if (target >= 0 && target < size) {
                SCALAR* to = sums + target * width + column;
                if (WIDTH > 1) store_pack(to, sum);
                else store(to, sum[0]);
            }
            start = r + 1;
#pragma unroll
            for (int j = 0; j < WIDTH; j++) sum[j] = 0;
        }
    }
}

// Add up the edges of each run that begins in a segment and goes on, in their order
extern "C" __global__ void __launch_bounds__(256) scatter_edges(
    const long long* targets, const ACCUM* edges, SCALAR* sums, long long count, long long width,
    long long size)
{
    Segment mine(blockIdx.x, count);
    long long target = targets[mine.last - 1];
    if (target < 0 || target >= size || mine.last == count || targets[mine.last] != target) return;
    bool came_before = mine.first > 0 && targets[mine.first - 1] == target;
    if (came_before && targets[mine.first] == target) return;
    long long column = (long long)blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= width) return;
    ACCUM sum = edges[(blockIdx.x * 2ll + 1) * width + column];
#pragma unroll 8
    for (long long first = mine.last; first < count && targets[first] == target; first += SEGMENT)
        sum += edges[first / SEGMENT * 2 * width + column];
    store(sums + target * width + column, sum);
}
