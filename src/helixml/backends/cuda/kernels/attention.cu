// Attention and its gradient, tile by tile. For each query i of each head, over the keys j that it
// may see, those from i + first to i + last:
//   s_j = scale q_i . k_j,  P_j = e^(s_j) / sum_t e^(s_t),  y_i = sum_j P_j v_j
//
// Weights are never in memory: a block has ROWS queries and walks the keys in tiles of KEYS, with
// the largest score so far and the sum of e^(s - largest), and scales what it has summed when a
// larger one comes (Milakov & Gimelshein 2018, "Online normalizer calculation for softmax",
// algorithm 3). What is kept for the gradient is the logarithm of each sum. Logarithms and
// exponentials are of base 2.
//
// Threads form a square of SIDE by SIDE. Thread (y, x) has the rows y, y + SIDE, ... of a tile and
// the columns x, x + SIDE, ...: whoever has a row sits in one half of a warp.
//
// The launcher defines WIDTH (of queries and keys), DEPTH (of values), ROWS, KEYS and STEPS_FIRST:
// whether heads lie side by side in each step, (b, l, heads, width), or one behind the other,
// (b, heads, l, width).
#include "prelude.cuh"

#define SIDE 16
#define THREADS (SIDE * SIDE)
// Strides take registers: with 64 of them, for four blocks at once, some would be in memory
#if STEPS_FIRST
#define BOUNDS THREADS, 3
#else
#define BOUNDS THREADS
#endif
#define OWN_ROWS (ROWS / SIDE)
#define OWN_KEYS (KEYS / SIDE)
#define OWN_WIDTH ((WIDTH + SIDE - 1) / SIDE)
#define OWN_DEPTH ((DEPTH + SIDE - 1) / SIDE)
#define LOG2_E ((ACCUM)1.4426950408889634074)
#define LN_2 ((ACCUM)0.69314718055994530942)

// Lengths, heads of queries and of keys, and the keys that query 0 sees
struct Sizes { int l, m, heads, key_heads, first, last; };

// Where the first row of a head lies, of `heads` heads of `length` rows, and how far the next is
template <int WIDE>
__device__ __forceinline__ long long place(long long head, int heads, int length)
{
    return (STEPS_FIRST ? head / heads * heads * length + head % heads : head * length) * WIDE;
}
__device__ __forceinline__ int step_of(int heads) { return STEPS_FIRST ? heads : 1; }

// Rows of memory from `start` on, multiplied; zeros behind the end and in the last columns
template <int COUNT, int LENGTH>
__device__ __forceinline__ void read_tile(
    ACCUM* tile, const SCALAR* rows, int start, int end, int step, ACCUM factor)
{
    for (int i = threadIdx.x; i < COUNT * LENGTH; i += THREADS) {
        int row = i / LENGTH, column = i % LENGTH;
        tile[row * (LENGTH + 1) + column] = start + row < end
            ? factor * load(rows + (long long)(start + row) * step * LENGTH + column) : (ACCUM)0;
    }
}

// sums[i][j] = left row i . right row j, over LENGTH columns
template <int LENGTH>
__device__ __forceinline__ void products(
    const ACCUM* left, const ACCUM* right, ACCUM (&sums)[OWN_ROWS][OWN_KEYS])
{
    int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
#pragma unroll
    for (int i = 0; i < OWN_ROWS; i++)
#pragma unroll
        for (int j = 0; j < OWN_KEYS; j++) sums[i][j] = 0;
#pragma unroll 8
    for (int c = 0; c < LENGTH; c++) {
        ACCUM column[OWN_KEYS];
#pragma unroll
        for (int j = 0; j < OWN_KEYS; j++) column[j] = right[(x + j * SIDE) * (LENGTH + 1) + c];
#pragma unroll
        for (int i = 0; i < OWN_ROWS; i++) {
            ACCUM row = left[(y + i * SIDE) * (LENGTH + 1) + c];
#pragma unroll
            for (int j = 0; j < OWN_KEYS; j++) sums[i][j] += row * column[j];
        }
    }
}

// The largest, or the sum, over the threads of a row
__device__ __forceinline__ ACCUM row_max(ACCUM value)
{
#pragma unroll
    for (int distance = SIDE / 2; distance > 0; distance /= 2)
        value = larger(value, __shfl_xor_sync(ALL_LANES, value, distance));
    return value;
}

__device__ __forceinline__ ACCUM row_sum(ACCUM value)
{
#pragma unroll
    for (int distance = SIDE / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}

__device__ __forceinline__ bool sees(const Sizes& sizes, int query, int key)
{
    return query < sizes.l && key < sizes.m && key >= query + sizes.first
        && key <= query + sizes.last;
}

// totals of rows += weights of rows and keys times values of keys. What is not seen may be no
// number, so weights of 0 are left out.
template <int COUNT, int LENGTH, int OWN_TOTALS>
__device__ __forceinline__ void add_weighted(
    ACCUM (&totals)[OWN_TOTALS][(LENGTH + SIDE - 1) / SIDE], const ACCUM* weights, int row_step,
    int step, const ACCUM* values)
{
    int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
#pragma unroll 4
    for (int j = 0; j < COUNT; j++) {
        ACCUM value[(LENGTH + SIDE - 1) / SIDE];
#pragma unroll
        for (int c = 0; c < (LENGTH + SIDE - 1) / SIDE; c++) {
            int column = x + c * SIDE;
            value[c] = column < LENGTH ? values[j * (LENGTH + 1) + column] : (ACCUM)0;
        }
#pragma unroll
        for (int i = 0; i < OWN_TOTALS; i++) {
            ACCUM weight = weights[(y + i * SIDE) * row_step + j * step];
            if (weight == 0) continue;
#pragma unroll
            for (int c = 0; c < (LENGTH + SIDE - 1) / SIDE; c++) totals[i][c] += weight * value[c];
        }
    }
}

// With `added`, rows like those written, their sums go to `sums`.
template <int LENGTH, int OWN_TOTALS>
__device__ __forceinline__ void write_tile(
    SCALAR* rows, int start, int end, int step,
    const ACCUM (&totals)[OWN_TOTALS][(LENGTH + SIDE - 1) / SIDE], const SCALAR* added = 0,
    SCALAR* sums = 0)
{
    int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
#pragma unroll
    for (int i = 0; i < OWN_TOTALS; i++)
#pragma unroll
        for (int c = 0; c < (LENGTH + SIDE - 1) / SIDE; c++) {
            int row = start + y + i * SIDE, column = x + c * SIDE;
            if (row >= end || column >= LENGTH) continue;
            long long at = (long long)row * step * LENGTH + column;
            if (rows) store(rows + at, totals[i][c]);
            if (added) store(sums + at, totals[i][c] + load(added + at));
        }
}

// q: (b, heads, l, WIDTH), k: (b, key_heads, m, WIDTH), v: (b, key_heads, m, DEPTH), y: (b, heads,
// l, DEPTH), or with STEPS_FIRST (b, l, heads, WIDTH) and so on; logarithms: (b, heads, l). With
// `added`, which lies as y does, with_added = y + added; then y may be null. Shared: tiles of q, of k
// or v, of weights.
extern "C" __global__ void __launch_bounds__(BOUNDS) attention(
    const SCALAR* __restrict__ q, const SCALAR* __restrict__ k, const SCALAR* __restrict__ v,
    SCALAR* __restrict__ y, const SCALAR* __restrict__ added, SCALAR* __restrict__ with_added,
    ACCUM* __restrict__ logarithms, ACCUM scale, int l, int m, int heads, int key_heads, int first,
    int last)
{
    extern __shared__ ACCUM shared[];
    const int longest = WIDTH > DEPTH ? WIDTH : DEPTH;
    ACCUM* queries = shared;
    ACCUM* tile = queries + ROWS * (WIDTH + 1);
    ACCUM* weights = tile + KEYS * (longest + 1);
    const Sizes sizes = {l, m, heads, key_heads, first, last};
    int tiles = (l + ROWS - 1) / ROWS, start = blockIdx.x % tiles * ROWS;
    long long head = blockIdx.x / tiles;
    long long key_head = head / heads * key_heads + head % heads / (heads / key_heads);
    k += place<WIDTH>(key_head, key_heads, m);
    v += place<DEPTH>(key_head, key_heads, m);
    int x = threadIdx.x % SIDE, row = threadIdx.x / SIDE;

    read_tile<ROWS, WIDTH>(queries, q + place<WIDTH>(head, heads, l), start, l, step_of(heads),
        scale * LOG2_E);
    ACCUM totals[OWN_ROWS][OWN_DEPTH], largest[OWN_ROWS], sums[OWN_ROWS];
#pragma unroll
    for (int i = 0; i < OWN_ROWS; i++) {
        largest[i] = -(ACCUM)infinity();
        sums[i] = 0;
#pragma unroll
        for (int c = 0; c < OWN_DEPTH; c++) totals[i][c] = 0;
    }
    int behind = min(m, start + ROWS + last);
    for (int key = max(0, start + first); key < behind; key += KEYS) {
        __syncthreads();  // weights and values have been read
        read_tile<KEYS, WIDTH>(tile, k, key, m, step_of(key_heads), 1);
        __syncthreads();
        ACCUM scores[OWN_ROWS][OWN_KEYS];
        products<WIDTH>(queries, tile, scores);
#pragma unroll
        for (int i = 0; i < OWN_ROWS; i++) {
            int query = start + row + i * SIDE;
            ACCUM top = largest[i], sum = 0;
#pragma unroll
            for (int j = 0; j < OWN_KEYS; j++)
                if (sees(sizes, query, key + x + j * SIDE)) top = larger(top, scores[i][j]);
            top = row_max(top);
#pragma unroll
            for (int j = 0; j < OWN_KEYS; j++) {
                bool none = !sees(sizes, query, key + x + j * SIDE)
                    || scores[i][j] == -(ACCUM)infinity();
                ACCUM weight = none ? (ACCUM)0 : exp2(scores[i][j] - top);
                weights[(row + i * SIDE) * (KEYS + 1) + x + j * SIDE] = weight;
                sum += weight;
            }
            ACCUM kept = top == largest[i] ? (ACCUM)1 : exp2(largest[i] - top);
            sums[i] = sums[i] * kept + row_sum(sum);
            largest[i] = top;
#pragma unroll
            for (int c = 0; c < OWN_DEPTH; c++) totals[i][c] *= kept;
        }
        __syncthreads();  // keys have been read
        read_tile<KEYS, DEPTH>(tile, v, key, m, step_of(key_heads), 1);
        __syncthreads();
        add_weighted<KEYS, DEPTH>(totals, weights, KEYS + 1, 1, tile);
    }
#pragma unroll
    for (int i = 0; i < OWN_ROWS; i++) {
        int query = start + row + i * SIDE;
        bool blind = max(0, query + first) > min(m - 1, query + last);
#pragma unroll
        for (int c = 0; c < OWN_DEPTH; c++) totals[i][c] = blind ? (ACCUM)0 : totals[i][c] / sums[i];
        if (x == 0 && query < l)
            logarithms[head * l + query] = blind ? (ACCUM)0 : largest[i] + log2(sums[i]);
    }
    long long at = place<DEPTH>(head, heads, l);
    write_tile<DEPTH>(y ? y + at : 0, start, l, step_of(heads), totals, added ? added + at : 0,
        with_added ? with_added + at : 0);
}

// means[i] = g_i . y_i of each query, (b, heads, l); a warp has one.
extern "C" __global__ void __launch_bounds__(THREADS) pulled_means(
    const SCALAR* __restrict__ g, const SCALAR* __restrict__ y, ACCUM* __restrict__ means,
    long long queries, int l, int heads)
{
    long long query = position() / WARP;
    if (query >= queries) return;
    ACCUM sum = 0;
    for (int c = threadIdx.x % WARP; c < DEPTH; c += WARP)
        sum += load(g + query * DEPTH + c) * load(y + query * DEPTH + c);
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        sum += __shfl_xor_sync(ALL_LANES, sum, distance);
    if (STEPS_FIRST) {
        long long line = query / heads;
        query = (line / l * heads + query % heads) * l + line % l;
    }
    if (threadIdx.x % WARP == 0) means[query] = sum;
}

// Weights P of a tile, and the cotangents of its scores, P (g . v - mean), into shared memory
__device__ __forceinline__ void pull_scores(
    const Sizes& sizes, const ACCUM* queries, const ACCUM* keys, const ACCUM* cotangents,
    const ACCUM* values, int query, int key, const ACCUM* logarithms, const ACCUM* means,
    ACCUM* weights, ACCUM* slopes)
{
    int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
    ACCUM scores[OWN_ROWS][OWN_KEYS], along[OWN_ROWS][OWN_KEYS];
    products<WIDTH>(queries, keys, scores);
    products<DEPTH>(cotangents, values, along);
#pragma unroll
    for (int i = 0; i < OWN_ROWS; i++) {
        int own = query + y + i * SIDE;
        ACCUM logarithm = own < sizes.l ? logarithms[own] : (ACCUM)0;
        ACCUM mean = own < sizes.l ? means[own] : (ACCUM)0;
#pragma unroll
        for (int j = 0; j < OWN_KEYS; j++) {
            bool seen = sees(sizes, own, key + x + j * SIDE);
            ACCUM weight = seen ? exp2(scores[i][j] - logarithm) : (ACCUM)0;
            int at = (y + i * SIDE) * (KEYS + 1) + x + j * SIDE;
            if (weights) weights[at] = weight;
            slopes[at] = seen ? weight * (along[i][j] - mean) : (ACCUM)0;
        }
    }
}

// gq_i = scale sum_j (slope of s_j) k_j. Shared: tiles of q, g, k, v, and of slopes.
extern "C" __global__ void __launch_bounds__(THREADS, 2) pull_queries(
    const SCALAR* __restrict__ g, const SCALAR* __restrict__ q, const SCALAR* __restrict__ k,
    const SCALAR* __restrict__ v, const ACCUM* __restrict__ logarithms,
    const ACCUM* __restrict__ means, SCALAR* __restrict__ gq, ACCUM scale, int l, int m, int heads,
    int key_heads, int first, int last)
{
    extern __shared__ ACCUM shared[];
    ACCUM* queries = shared;
    ACCUM* cotangents = queries + ROWS * (WIDTH + 1);
    ACCUM* keys = cotangents + ROWS * (DEPTH + 1);
    ACCUM* values = keys + KEYS * (WIDTH + 1);
    ACCUM* slopes = values + KEYS * (DEPTH + 1);
    const Sizes sizes = {l, m, heads, key_heads, first, last};
    int tiles = (l + ROWS - 1) / ROWS, start = blockIdx.x % tiles * ROWS;
    long long head = blockIdx.x / tiles;
    long long key_head = head / heads * key_heads + head % heads / (heads / key_heads);
    k += place<WIDTH>(key_head, key_heads, m);
    v += place<DEPTH>(key_head, key_heads, m);

    read_tile<ROWS, WIDTH>(queries, q + place<WIDTH>(head, heads, l), start, l, step_of(heads),
        scale * LOG2_E);
    read_tile<ROWS, DEPTH>(
        cotangents, g + place<DEPTH>(head, heads, l), start, l, step_of(heads), 1);
    ACCUM totals[OWN_ROWS][OWN_WIDTH];
#pragma unroll
    for (int i = 0; i < OWN_ROWS; i++)
#pragma unroll
        for (int c = 0; c < OWN_WIDTH; c++) totals[i][c] = 0;
    int behind = min(m, start + ROWS + last);
    for (int key = max(0, start + first); key < behind; key += KEYS) {
        __syncthreads();
        read_tile<KEYS, WIDTH>(keys, k, key, m, step_of(key_heads), 1);
        read_tile<KEYS, DEPTH>(values, v, key, m, step_of(key_heads), 1);
        __syncthreads();
        pull_scores(sizes, queries, keys, cotangents, values, start, key, logarithms + head * l,
            means + head * l, 0, slopes);
        __syncthreads();
        add_weighted<KEYS, WIDTH>(totals, slopes, KEYS + 1, 1, keys);
    }
#pragma unroll
    for (int i = 0; i < OWN_ROWS; i++)
#pragma unroll
        for (int c = 0; c < OWN_WIDTH; c++) totals[i][c] *= scale;
    write_tile<WIDTH>(gq + place<WIDTH>(head, heads, l), start, l, step_of(heads), totals);
}

// gk_j = scale sum_i (slope of s_j) q_i and gv_j = sum_i P_j g_i, over the queries of all heads that
// share the keys. A block has KEYS keys. Shared: tiles of q, g, k, v, of weights and of slopes.
extern "C" __global__ void __launch_bounds__(THREADS) pull_keys(
    const SCALAR* __restrict__ g, const SCALAR* __restrict__ q, const SCALAR* __restrict__ k,
    const SCALAR* __restrict__ v, const ACCUM* __restrict__ logarithms,
    const ACCUM* __restrict__ means, SCALAR* __restrict__ gk, SCALAR* __restrict__ gv, ACCUM scale,
    int l, int m, int heads, int key_heads, int first, int last)
{
    extern __shared__ ACCUM shared[];
    ACCUM* queries = shared;
    ACCUM* cotangents = queries + ROWS * (WIDTH + 1);
    ACCUM* keys = cotangents + ROWS * (DEPTH + 1);
    ACCUM* values = keys + KEYS * (WIDTH + 1);
    ACCUM* slopes = values + KEYS * (DEPTH + 1);
    ACCUM* weights = slopes + ROWS * (KEYS + 1);
    const Sizes sizes = {l, m, heads, key_heads, first, last};
    int tiles = (m + KEYS - 1) / KEYS, start = blockIdx.x % tiles * KEYS;
    long long key_head = blockIdx.x / tiles;
    int share = heads / key_heads;
    long long first_head = key_head / key_heads * heads + key_head % key_heads * share;

    read_tile<KEYS, WIDTH>(keys, k + place<WIDTH>(key_head, key_heads, m), start, m,
        step_of(key_heads), 1);
    read_tile<KEYS, DEPTH>(values, v + place<DEPTH>(key_head, key_heads, m), start, m,
        step_of(key_heads), 1);
    ACCUM of_keys[OWN_KEYS][OWN_WIDTH], of_values[OWN_KEYS][OWN_DEPTH];
#pragma unroll
    for (int i = 0; i < OWN_KEYS; i++) {
#pragma unroll
        for (int c = 0; c < OWN_WIDTH; c++) of_keys[i][c] = 0;
#pragma unroll
        for (int c = 0; c < OWN_DEPTH; c++) of_values[i][c] = 0;
    }
    int behind = min(l, start + KEYS - first);
    for (long long head = first_head; head < first_head + share; head++) {
        for (int query = max(0, start - last); query < behind; query += ROWS) {
            __syncthreads();
            read_tile<ROWS, WIDTH>(queries, q + place<WIDTH>(head, heads, l), query, l,
                step_of(heads), scale * LOG2_E);
            read_tile<ROWS, DEPTH>(cotangents, g + place<DEPTH>(head, heads, l), query, l,
                step_of(heads), 1);
            __syncthreads();
            pull_scores(sizes, queries, keys, cotangents, values, query, start,
                logarithms + head * l, means + head * l, weights, slopes);
            __syncthreads();
            add_weighted<ROWS, WIDTH>(of_keys, slopes, 1, KEYS + 1, queries);
            add_weighted<ROWS, DEPTH>(of_values, weights, 1, KEYS + 1, cotangents);
        }
    }
#pragma unroll
    for (int i = 0; i < OWN_KEYS; i++)
#pragma unroll
        for (int c = 0; c < OWN_WIDTH; c++) of_keys[i][c] *= LN_2;  // queries are scaled already
    write_tile<WIDTH>(
        gk + place<WIDTH>(key_head, key_heads, m), start, m, step_of(key_heads), of_keys);
    write_tile<DEPTH>(
        gv + place<DEPTH>(key_head, key_heads, m), start, m, step_of(key_heads), of_values);
}
