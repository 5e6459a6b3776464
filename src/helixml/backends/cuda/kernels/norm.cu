// Normalisation of rows by their root mean square, or by mean and variance.
//
// With s = x + residual, m its mean (0 for the root mean square) and r = 1 / sqrt(mean((s - m)^2)
// + eps), y = (s - m) r weight + bias. Backward, with n = (s - m) r and v = g weight:
// ds = r (v - mean(v) - n mean(v n)) + g_total, without mean(v) for the root mean square;
// dweight = sum of g n over rows, dbias = sum of g. A team adds up its own rows in registers, in
// parts; `column_sums` adds up the parts.
#include "rows.cuh"

template <bool CENTRED>
__device__ __forceinline__ void forward(
    const SCALAR* x, const SCALAR* residual, const SCALAR* weight, const SCALAR* bias,
    SCALAR* total, SCALAR* y, ACCUM* means, ACCUM* scales, long long rows, long long columns,
    ACCUM eps)
{
    Row row(columns);
    ACCUM kept[KEPT];
    ACCUM other[WIDTH];
    ACCUM gains[WIDTH];
    for (long long r = row.number; r < rows; r += row.step) {
        const SCALAR* from = x + r * columns;
        auto fetch = [&](int k, long long i) {
            ACCUM* s = kept + k * WIDTH;
            load_item(from, i, s);
            if (residual) {
                load_item(residual + r * columns, i, other);
#pragma unroll
                for (int j = 0; j < WIDTH; j++) s[j] += other[j];
            }
        };
        ACCUM sum = 0;
        row.each([&](int k, long long i) {
            fetch(k, i);
            if (total) store_item(total + r * columns, i, kept + k * WIDTH);
#pragma unroll
            for (int j = 0; j < WIDTH; j++) {
                ACCUM s = kept[k * WIDTH + j];
                sum += CENTRED ? s : s * s;
            }
        });
        ACCUM mean = 0;
        sum = row_sum(sum);
        if (CENTRED) {
            mean = sum / columns;
            sum = 0;
            row.each([&](int k, long long i) {
                if (ITEMS == 0) fetch(k, i);
#pragma unroll
                for (int j = 0; j < WIDTH; j++) {
                    ACCUM s = kept[k * WIDTH + j] - mean;
                    sum += s * s;
                }
            });
            sum = row_sum(sum);
        }
        ACCUM scale = 1 / sqrt(sum / columns + eps);
        if (row.lane == 0) {
            if (CENTRED) means[r] = mean;
            scales[r] = scale;
        }
        row.each([&](int k, long long i) {
            if (ITEMS == 0) fetch(k, i);
            load_item(weight, i, gains);
#pragma unroll
            for (int j = 0; j < WIDTH; j++) gains[j] *= (kept[k * WIDTH + j] - mean) * scale;
            if (CENTRED && bias) {
                load_item(bias, i, other);
#pragma unroll
                for (int j = 0; j < WIDTH; j++) gains[j] += other[j];
            }
            store_item(y + r * columns, i, gains);
        });
    }
}

extern "C" __global__ void __launch_bounds__(ROW_THREADS) rms_norm(
    const SCALAR* x, const SCALAR* residual, const SCALAR* weight, SCALAR* total, SCALAR* y,
    ACCUM* scales, long long rows, long long columns, ACCUM eps)
{
    forward<false>(x, residual, weight, 0, total, y, 0, scales, rows, columns, eps);
}

extern "C" __global__ void __launch_bounds__(ROW_THREADS) layer_norm(
    const SCALAR* x, const SCALAR* residual, const SCALAR* weight, const SCALAR* bias,
    SCALAR* total, SCALAR* y, ACCUM* means, ACCUM* scales, long long rows, long long columns,
    ACCUM eps)
{
    forward<true>(x, residual, weight, bias, total, y, means, scales, rows, columns, eps);
}

// Parts are (teams, columns), zeros where the row does not stay in registers
template <bool CENTRED>
__device__ __forceinline__ void backward(
    const SCALAR* g, const SCALAR* g_total, const SCALAR* s, const SCALAR* weight,
    const ACCUM* means, const ACCUM* scales, SCALAR* ds, ACCUM* weight_parts, ACCUM* bias_parts,
    long long rows, long long columns)
{
    Row row(columns);
    ACCUM normal[KEPT];
    ACCUM slope[KEPT];
    ACCUM gains[KEPT];
    ACCUM weight_sum[KEPT];
    ACCUM bias_sum[KEPT];
#pragma unroll
    for (int j = 0; j < KEPT; j++) weight_sum[j] = bias_sum[j] = 0;
    ACCUM* weight_part = weight_parts + row.number * columns;
    ACCUM* bias_part = bias_parts + row.number * columns;
    if (ITEMS > 0) row.each([&](int k, long long i) { load_item(weight, i, gains + k * WIDTH); });
    for (long long r = row.number; r < rows; r += row.step) {
        ACCUM mean = CENTRED ? means[r] : 0;
        ACCUM scale = scales[r];
        auto fetch = [&](int k, long long i) {
            load_item(s + r * columns, i, normal + k * WIDTH);
            load_item(g + r * columns, i, slope + k * WIDTH);
            if (ITEMS == 0) load_item(weight, i, gains);
#pragma unroll
            for (int j = k * WIDTH; j < (k + 1) * WIDTH; j++)
                normal[j] = (normal[j] - mean) * scale;
        };
        ACCUM along = 0;
        ACCUM sum = 0;
        row.each([&](int k, long long i) {
            fetch(k, i);
#pragma unroll
            for (int j = k * WIDTH; j < (k + 1) * WIDTH; j++) {
                along += slope[j] * gains[j] * normal[j];
                if (CENTRED) sum += slope[j] * gains[j];
                if (ITEMS > 0) {
                    weight_sum[j] += slope[j] * normal[j];
                    if (CENTRED) bias_sum[j] += slope[j];
                } else {
                    weight_part[i * WIDTH + j] += slope[j] * normal[j];
                    if (CENTRED) bias_part[i * WIDTH + j] += slope[j];
                }
            }
        });
        along = row_sum(along) / columns;
        if (CENTRED) sum = row_sum(sum) / columns;
        row.each([&](int k, long long i) {
            if (ITEMS == 0) fetch(k, i);
            ACCUM result[WIDTH];
            if (g_total) load_item(g_total + r * columns, i, result);
#pragma unroll
            for (int j = 0; j < WIDTH; j++) {
                int at = k * WIDTH + j;
                ACCUM pull = scale * (slope[at] * gains[at] - sum - normal[at] * along);
                result[j] = g_total ? result[j] + pull : pull;
            }
            store_item(ds + r * columns, i, result);
        });
    }
    if (ITEMS > 0) {
        row.each([&](int k, long long i) {
#pragma unroll
            for (int j = 0; j < WIDTH; j++) {
                weight_part[i * WIDTH + j] = weight_sum[k * WIDTH + j];
                if (CENTRED) bias_part[i * WIDTH + j] = bias_sum[k * WIDTH + j];
            }
        });
    }
}

extern "C" __global__ void __launch_bounds__(ROW_THREADS) rms_norm_vjp(
    const SCALAR* g, const SCALAR* g_total, const SCALAR* s, const SCALAR* weight,
    const ACCUM* scales, SCALAR* ds, ACCUM* weight_parts, long long rows, long long columns)
{
    backward<false>(g, g_total, s, weight, 0, scales, ds, weight_parts, 0, rows, columns);
}

extern "C" __global__ void __launch_bounds__(ROW_THREADS) layer_norm_vjp(
    const SCALAR* g, const SCALAR* g_total, const SCALAR* s, const SCALAR* weight,
    const ACCUM* means, const ACCUM* scales, SCALAR* ds, ACCUM* weight_parts, ACCUM* bias_parts,
    long long rows, long long columns)
{
    backward<true>(g, g_total, s, weight, means, scales, ds, weight_parts, bias_parts, rows,
        columns);
}
