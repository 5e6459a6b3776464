// Steps of AdamW, SGD and Lion, the norm of many arrays, and their scaling: all arrays in one launch.
//
// The table has the addresses of the arrays, (kinds, count): first those of the parameters, and so
// on. A block takes a chunk of one array; chunks are (array, first entry, entries) each.
#include "reduction.cuh"

struct Chunk {
    long long array;
    long long first;
    long long size;

    __device__ __forceinline__ Chunk(const long long* chunks)
    {
        const long long* mine = chunks + 3ll * blockIdx.x;
        array = mine[0];
        first = mine[1];
        size = mine[2];
    }

    // Where this chunk begins in the array of a kind
    __device__ __forceinline__ SCALAR* at(
        const unsigned long long* table, long long count, int kind) const
    {
        return reinterpret_cast<SCALAR*>(table[kind * count + array]) + first;
    }
};

__device__ __forceinline__ bool is_aligned(const void* address)
{
    return (unsigned long long)address % 16 == 0;
}

// Replace the entries of KINDS arrays side by side: change(values) has one entry of each. What is
// only read is written back as it was, unless it is array 1 of several.
template <int KINDS, class Change>
__device__ __forceinline__ void walk(SCALAR* const* arrays, long long size, Change change)
{
    bool aligned = true;
#pragma unroll
    for (int a = 0; a < KINDS; a++) aligned = aligned && is_aligned(arrays[a]);
    long long front = aligned ? size - size % PACK : 0;
    long long step = (long long)blockDim.x * PACK;
    for (long long i = (long long)threadIdx.x * PACK; i < front; i += step) {
        ACCUM packs[KINDS][PACK];
#pragma unroll
        for (int a = 0; a < KINDS; a++) load_pack(arrays[a] + i, packs[a]);
#pragma unroll
        for (int j = 0; j < PACK; j++) {
            ACCUM values[KINDS];
#pragma unroll
            for (int a = 0; a < KINDS; a++) values[a] = packs[a][j];
            change(values);
#pragma unroll
            for (int a = 0; a < KINDS; a++) packs[a][j] = values[a];
        }
#pragma unroll
        for (int a = 0; a < KINDS; a++)
            if (a != 1) store_pack(arrays[a] + i, packs[a]);
    }
    for (long long i = front + threadIdx.x; i < size; i += blockDim.x) {
        ACCUM values[KINDS];
#pragma unroll
        for (int a = 0; a < KINDS; a++) values[a] = load(arrays[a] + i);
        change(values);
#pragma unroll
        for (int a = 0; a < KINDS; a++)
            if (a != 1) store(arrays[a] + i, values[a]);
    }
}

// m_scale = 1 / (1 - beta1^t), v_scale = 1 / (1 - beta2^t), keep = 1 - lr weight_decay
extern "C" __global__ void adamw(
    const unsigned long long* table, const long long* chunks, long long count, ACCUM lr,
    ACCUM beta1, ACCUM beta2, ACCUM rest1, ACCUM rest2, ACCUM eps, ACCUM keep, ACCUM m_scale,
    ACCUM v_scale)
{
    Chunk chunk(chunks);
    SCALAR* arrays[4];
#pragma unroll
    for (int a = 0; a < 4; a++) arrays[a] = chunk.at(table, count, a);
    walk<4>(arrays, chunk.size, [&](ACCUM* at) {
        ACCUM g = at[1];
        at[2] = beta1 * at[2] + rest1 * g;
        at[3] = beta2 * at[3] + rest2 * g * g;
        ACCUM direction = at[2] * m_scale / (sqrt(at[3] * v_scale) + eps);
        at[0] = at[0] * keep - lr * direction;
    });
}

extern "C" __global__ void sgd(
    const unsigned long long* table, const long long* chunks, long long count, ACCUM lr,
    ACCUM weight_decay)
{
    Chunk chunk(chunks);
    SCALAR* arrays[2] = {chunk.at(table, count, 0), chunk.at(table, count, 1)};
    walk<2>(arrays, chunk.size, [&](ACCUM* at) { at[0] -= lr * (at[1] + weight_decay * at[0]); });
}

extern "C" __global__ void sgd_momentum(
    const unsigned long long* table, const long long* chunks, long long count, ACCUM lr,
    ACCUM weight_decay, ACCUM momentum, bool nesterov)
{
    Chunk chunk(chunks);
    SCALAR* arrays[3];
#pragma unroll
    for (int a = 0; a < 3; a++) arrays[a] = chunk.at(table, count, a);
    walk<3>(arrays, chunk.size, [&](ACCUM* at) {
        ACCUM g = at[1] + weight_decay * at[0];
        at[2] = momentum * at[2] + g;
        at[0] -= lr * (nesterov ? g + momentum * at[2] : at[2]);
    });
}

// keep = 1 - lr weight_decay; the sign of what is no number is none
extern "C" __global__ void lion(
    const unsigned long long* table, const long long* chunks, long long count, ACCUM lr,
    ACCUM beta1, ACCUM beta2, ACCUM rest1, ACCUM rest2, ACCUM keep)
{
    Chunk chunk(chunks);
    SCALAR* arrays[3];
#pragma unroll
    for (int a = 0; a < 3; a++) arrays[a] = chunk.at(table, count, a);
    walk<3>(arrays, chunk.size, [&](ACCUM* at) {
        ACCUM mean = beta1 * at[2] + rest1 * at[1];
        ACCUM sign = mean > 0 ? (ACCUM)1 : mean < 0 ? (ACCUM)-1 : mean;
        at[0] = at[0] * keep - lr * sign;
        at[2] = beta2 * at[2] + rest2 * at[1];
    });
}

extern "C" __global__ void scale(
    const unsigned long long* table, const long long* chunks, long long count, ACCUM factor)
{
    Chunk chunk(chunks);
    SCALAR* arrays[1] = {chunk.at(table, count, 0)};
    walk<1>(arrays, chunk.size, [&](ACCUM* at) { at[0] *= factor; });
}

// The sum of squares of each chunk, in double
extern "C" __global__ void squares(
    const unsigned long long* table, const long long* chunks, long long count, double* sums)
{
    Chunk chunk(chunks);
    const SCALAR* x = chunk.at(table, count, 0);
    long long front = is_aligned(x) ? chunk.size - chunk.size % PACK : 0;
    double sum = 0;
    long long step = (long long)blockDim.x * PACK;
    for (long long i = (long long)threadIdx.x * PACK; i < front; i += step) {
        ACCUM values[PACK];
        load_pack(x + i, values);
#pragma unroll
        for (int j = 0; j < PACK; j++) sum += (double)values[j] * (double)values[j];
    }
    for (long long i = front + threadIdx.x; i < chunk.size; i += blockDim.x) {
        double value = load(x + i);
        sum += value * value;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// One block adds up the chunks
extern "C" __global__ void root(const double* sums, long long count, SCALAR* result)
{
    double sum = 0;
    for (long long i = threadIdx.x; i < count; i += blockDim.x) sum += sums[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) store(result, (ACCUM)sqrt(sum));
}
