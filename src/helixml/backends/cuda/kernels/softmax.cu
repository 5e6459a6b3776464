// Softmax of rows, y = e^(x - top) / sum, and its logarithm, x - top - log(sum).
//
// Backward, from y: y (g - sum(g y)), and g - e^y sum(g) for the logarithm.
#include "rows.cuh"

template <bool LOGARITHM>
__device__ __forceinline__ void forward(
    const SCALAR* x, SCALAR* y, long long rows, long long columns)
{
    Row row(columns);
    ACCUM kept[KEPT];
    for (long long r = row.number; r < rows; r += row.step) {
        const SCALAR* from = x + r * columns;
        ACCUM top = -(ACCUM)infinity();
        row.each([&](int k, long long i) {
            load_item(from, i, kept + k * WIDTH);
#pragma unroll
            for (int j = k * WIDTH; j < (k + 1) * WIDTH; j++) top = larger(top, kept[j]);
        });
        top = row_max(top);
        ACCUM sum = 0;
        row.each([&](int k, long long i) {
            if (ITEMS == 0) load_item(from, i, kept);
#pragma unroll
            for (int j = k * WIDTH; j < (k + 1) * WIDTH; j++) {
                ACCUM e = exp(kept[j] - top);
                sum += e;
                if (!LOGARITHM && ITEMS > 0) kept[j] = e;
            }
        });
        sum = row_sum(sum);
        ACCUM rest = LOGARITHM ? log(sum) : 1 / sum;
        row.each([&](int k, long long i) {
            if (ITEMS == 0) load_item(from, i, kept);
#pragma unroll
            for (int j = k * WIDTH; j < (k + 1) * WIDTH; j++) {
                if (LOGARITHM) kept[j] = kept[j] - top - rest;
                else kept[j] = (ITEMS > 0 ? kept[j] : exp(kept[j] - top)) * rest;
            }
            store_item(y + r * columns, i, kept + k * WIDTH);
        });
    }
}

extern "C" __global__ void __launch_bounds__(ROW_THREADS) softmax(
    const SCALAR* x, SCALAR* y, long long rows, long long columns)
{
    forward<false>(x, y, rows, columns);
}

extern "C" __global__ void __launch_bounds__(ROW_THREADS) log_softmax(
    const SCALAR* x, SCALAR* y, long long rows, long long columns)
{
    forward<true>(x, y, rows, columns);
}

template <bool LOGARITHM>
__device__ __forceinline__ void backward(
    const SCALAR* g, const SCALAR* y, SCALAR* dx, long long rows, long long columns)
{
    Row row(columns);
    ACCUM values[KEPT];
    ACCUM pulls[KEPT];
    for (long long r = row.number; r < rows; r += row.step) {
        ACCUM sum = 0;
        row.each([&](int k, long long i) {
            load_item(y + r * columns, i, values + k * WIDTH);
            load_item(g + r * columns, i, pulls + k * WIDTH);
#pragma unroll
            for (int j = k * WIDTH; j < (k + 1) * WIDTH; j++)
                sum += LOGARITHM ? pulls[j] : pulls[j] * values[j];
        });
        sum = row_sum(sum);
        row.each([&](int k, long long i) {
            if (ITEMS == 0) {
                load_item(y + r * columns, i, values);
                load_item(g + r * columns, i, pulls);
            }
#pragma unroll
            for (int j = k * WIDTH; j < (k + 1) * WIDTH; j++) {
                if (LOGARITHM) pulls[j] -= exp(values[j]) * sum;
                else pulls[j] = values[j] * (pulls[j] - sum);
            }
            store_item(dx + r * columns, i, pulls + k * WIDTH);
        });
    }
}

extern "C" __global__ void __launch_bounds__(ROW_THREADS) softmax_vjp(
    const SCALAR* g, const SCALAR* y, SCALAR* dx, long long rows, long long columns)
{
    backward<false>(g, y, dx, rows, columns);
}

extern "C" __global__ void __launch_bounds__(ROW_THREADS) log_softmax_vjp(
    const SCALAR* g, const SCALAR* y, SCALAR* dx, long long rows, long long columns)
{
    backward<true>(g, y, dx, rows, columns);
}
