// A step of a Mamba mixer, but for its plain products, which are stored_linear's:
//   [u, z] = in_proj x,  u <- silu(conv(past, u))            (enter)
//   [dt, B, C] = x_proj u
//   delta = softplus(dt_proj dt),  h <- exp(-delta exp(A_log)) h + delta B u,
//   mixed = (C h + D u) silu(z)                               (advance)
//   y = out_proj mixed
// A warp takes a row of the matrix, which is a channel, for all sequences.
#include "stored.cuh"

#define LOG2_E ((ACCUM)1.4426950408889634074)

__device__ __forceinline__ ACCUM silu(ACCUM x) { return x / (1 + exp(-x)); }

// x: (b, m), in_proj: (2 d, m), past and later: (b, d, taps - 1), u and z: (b, d)
extern "C" __global__ void __launch_bounds__(THREADS, 4) enter(
    const SCALAR* __restrict__ x, const void* __restrict__ in_proj,
    const SCALAR* __restrict__ in_scale, const SCALAR* __restrict__ in_bias,
    const SCALAR* __restrict__ past, const SCALAR* __restrict__ conv_weight,
    const SCALAR* __restrict__ conv_bias, SCALAR* __restrict__ u, SCALAR* __restrict__ z,
    SCALAR* __restrict__ later, int b, int m, int d, int taps)
{
    long long row = position() / WARP;
    if (row >= 2 * (long long)d) return;
    ACCUM sums[VECTORS];
    row_products(in_proj, row, x, b, m, m, sums);
    ACCUM factor = in_scale ? load(in_scale + row) : (ACCUM)1;
    ACCUM added = in_bias ? load(in_bias + row) : (ACCUM)0;
    if (threadIdx.x % WARP) return;
    int channel = row % d;
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        if (i >= b) break;
        ACCUM value = sums[i] * factor + added;
        long long place = (long long)i * d + channel;
        if (row >= d) {
            store(z + place, value);
            continue;
        }
        const SCALAR* weights = conv_weight + (long long)channel * taps;
        ACCUM total = conv_bias ? load(conv_bias + channel) : (ACCUM)0;
        for (int j = 0; j < taps - 1; j++) {
            ACCUM seen = load(past + place * (taps - 1) + j);
            total += seen * load(weights + j);
            if (j) store(later + place * (taps - 1) + j - 1, seen);
        }
        if (taps > 1) store(later + place * (taps - 1) + taps - 2, value);
        store(u + place, silu(total + value * load(weights + taps - 1)));
    }
}

// selected: (b, rank + 2 n), dt_proj: (d, rank), state and next: (b, d, n), mixed: (b, d)
extern "C" __global__ void __launch_bounds__(THREADS, 4) advance(
    const SCALAR* __restrict__ selected, const void* __restrict__ dt_proj,
    const SCALAR* __restrict__ dt_scale, const SCALAR* __restrict__ dt_bias,
    const SCALAR* __restrict__ u, const SCALAR* __restrict__ z, const SCALAR* __restrict__ A_log,
    const SCALAR* __restrict__ D, const SCALAR* __restrict__ state, SCALAR* __restrict__ next,
    SCALAR* __restrict__ mixed, int b, int d, int n, int rank)
{
    long long channel = position() / WARP;
    if (channel >= d) return;
    ACCUM sums[VECTORS];
    row_products(dt_proj, channel, selected, b, rank + 2 * n, rank, sums);
    ACCUM factor = dt_scale ? load(dt_scale + channel) : (ACCUM)1;
    ACCUM added = dt_bias ? load(dt_bias + channel) : (ACCUM)0, skip = load(D + channel);
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        if (i >= b) break;
        ACCUM p = sums[i] * factor + added;
        ACCUM delta = (p > 0 ? p : (ACCUM)0) + log1p(exp(-fabs(p)));
        const SCALAR* B = selected + (long long)i * (rank + 2 * n) + rank;
        long long place = (long long)i * d + channel;
        ACCUM input = load(u + place), read = 0;
        for (int k = threadIdx.x % WARP; k < n; k += WARP) {
            ACCUM rate = exp(load(A_log + channel * n + k));
            ACCUM h = exp2(-delta * rate * LOG2_E) * load(state + place * n + k)
                + delta * input * load(B + k);
            store(next + place * n + k, h);
            read += load(B + n + k) * h;
        }
        read = warp_sum(read) + skip * input;
        if (threadIdx.x % WARP == 0) store(mixed + place, read * silu(load(z + place)));
    }
}
