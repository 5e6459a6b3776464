// Cross entropy of class indices: loss = -sum_k q_k log p_k with p = softmax(logits) and the target
// spread as q_k = (1 - smoothing) [k = target] + smoothing / columns; 0 where the target is
// ignored.
//
// With top the largest logit and sum that of e^(x - top): loss = log(sum) - sum_k q_k (x_k - top).
// The gradient is g (p - q), divided by what counts.
#include "rows.cuh"

__device__ __forceinline__ void write_gradient(
    const Row& row, const SCALAR* from, SCALAR* to, ACCUM* kept, bool are_kept, long long target,
    long long columns, ACCUM top, ACCUM factor, ACCUM weight, ACCUM smoothing)
{
    ACCUM even = weight * smoothing / columns;
    ACCUM on_target = weight * (1 - smoothing);
    row.each([&](int k, long long i) {
        if (!are_kept) load_item(from, i, kept + k * WIDTH);
        ACCUM slopes[WIDTH];
#pragma unroll
        for (int j = 0; j < WIDTH; j++) {
            slopes[j] = exp(kept[k * WIDTH + j] - top) * factor - even;
            if (i * WIDTH + j == target) slopes[j] -= on_target;
        }
        store_item(to, i, slopes);
    });
}

__device__ __forceinline__ void write_zeros(const Row& row, SCALAR* to)
{
    row.each([&](int k, long long i) {
        ACCUM zeros[WIDTH];
#pragma unroll
        for (int j = 0; j < WIDTH; j++) zeros[j] = 0;
        store_item(to, i, zeros);
    });
}

// counted and gradient may be null: then all rows count, and no gradient is prepared, for g = 1
extern "C" __global__ void __launch_bounds__(ROW_THREADS) cross_entropy(
    const SCALAR* logits, const long long* target, ACCUM* losses, ACCUM* tops, ACCUM* sums,
    SCALAR* gradient, const ACCUM* counted, ACCUM share, long long rows, long long columns,
    bool ignores, long long ignored, ACCUM smoothing)
{
    Row row(columns);
    ACCUM kept[KEPT];
    for (long long r = row.number; r < rows; r += row.step) {
        const SCALAR* from = logits + r * columns;
        long long goal = target[r];
        bool counts = !(ignores && goal == ignored);
        ACCUM top = -(ACCUM)infinity();
        row.each([&](int k, long long i) {
            load_item(from, i, kept + k * WIDTH);
#pragma unroll
            for (int j = k * WIDTH; j < (k + 1) * WIDTH; j++) top = larger(top, kept[j]);
        });
        top = row_max(top);
        ACCUM sum = 0;
        ACCUM above = 0;  // sum of x - top
        ACCUM mine = 0;   // x - top of the target
        row.each([&](int k, long long i) {
            if (ITEMS == 0) load_item(from, i, kept);
#pragma unroll
            for (int j = 0; j < WIDTH; j++) {
                ACCUM x = kept[k * WIDTH + j] - top;
                sum += exp(x);
                above += x;
                if (i * WIDTH + j == goal) mine = x;
            }
        });
        sum = row_sum(sum);
        mine = row_sum(mine);
        ACCUM loss = log(sum) - (1 - smoothing) * mine;
        if (smoothing != 0) loss -= smoothing * row_sum(above) / columns;
        if (row.lane == 0) {
            losses[r] = counts ? loss : 0;
            tops[r] = top;
            sums[r] = sum;
        }
        if (!gradient) continue;
        ACCUM weight = counted ? 1 / larger(*counted, 1) : share;
        SCALAR* to = gradient + r * columns;
        if (counts)
            write_gradient(row, from, to, kept, ITEMS > 0, goal, columns, top, weight / sum,
                weight, smoothing);
        else write_zeros(row, to);
    }
}

// g has one entry for each row, or one for all
extern "C" __global__ void __launch_bounds__(ROW_THREADS) cross_entropy_vjp(
    const SCALAR* g, bool each, const SCALAR* logits, const long long* target, const ACCUM* tops,
    const ACCUM* sums, SCALAR* gradient, const ACCUM* counted, ACCUM share, long long rows,
    long long columns, bool ignores, long long ignored, ACCUM smoothing)
{
    Row row(columns);
    ACCUM kept[KEPT];
    for (long long r = row.number; r < rows; r += row.step) {
        SCALAR* to = gradient + r * columns;
        long long goal = target[r];
        if (ignores && goal == ignored) {
            write_zeros(row, to);
            continue;
        }
        ACCUM weight = load(g + (each ? r : 0)) * (counted ? 1 / larger(*counted, 1) : share);
        write_gradient(row, logits + r * columns, to, kept, false, goal, columns, tops[r],
            weight / sums[r], weight, smoothing);
    }
}

// Multiply a gradient that was prepared for g = 1 with g
extern "C" __global__ void __launch_bounds__(ROW_THREADS) scale_prepared(
    const SCALAR* g, SCALAR* gradient, long long size)
{
    ACCUM factor = load(g);
    if (factor == 1) return;
    for (long long i = position(); i < size; i += positions())
        store(gradient + i, load(gradient + i) * factor);
}

// How many targets count; one block
extern "C" __global__ void __launch_bounds__(1024) count_targets(
    const long long* target, ACCUM* counted, long long rows, long long ignored)
{
    long long count = 0;
    for (long long r = threadIdx.x; r < rows; r += blockDim.x) count += target[r] != ignored;
    count = block_sum(count);
    if (threadIdx.x == 0) *counted = (ACCUM)count;
}

// The sum of the losses, in double, times share or divided by what counts; one block
extern "C" __global__ void __launch_bounds__(1024) total(
    const ACCUM* losses, const ACCUM* counted, SCALAR* loss, double share, long long rows)
{
    double sum = 0;
    for (long long r = threadIdx.x; r < rows; r += blockDim.x) sum += losses[r];
    sum = block_sum(sum);
    if (threadIdx.x == 0) store(loss, (ACCUM)(counted ? sum / larger(*counted, 1) : sum * share));
}
