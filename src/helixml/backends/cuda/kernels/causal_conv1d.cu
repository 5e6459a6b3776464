// The causal depthwise convolution and its gradient. For each sequence and channel:
//   p_t = bias + sum_j w_j x_(t-k+1+j),  y_t = p_t, or p_t sigmoid(p_t) with SILU
//
// Where channels are contiguous in memory, a thread walks the steps of one of them; where time is
// (TIME), the threads of a block stand at neighbouring steps. RUN is how many steps a thread takes.
// Sums over time, the gradients of taps and bias, are parts that `sum_parts` adds up.
//
// The launcher defines TIME, SILU, TAPS, THREADS and RUN.
#include "reduction.cuh"

#define BATCH 8  // steps that a thread reads before it uses the first

// One channel of a sequence, in x, whose rows lie `pitch` apart, and in arrays without gaps
struct Line {
    const SCALAR* x;
    const SCALAR* past;  // TAPS - 1 steps, what came before x; null for zeros
    long long base, step;  // where it begins, and how far its steps lie apart
    int l, pitch;

    __device__ __forceinline__ Line(
        const SCALAR* x, const SCALAR* past, int batch, int channel, int d, int l, int pitch)
        : x(x), past(past), l(l), pitch(pitch)
    {
        long long row = (long long)batch * d + channel;
        base = TIME ? row * l : (long long)batch * l * d + channel;
        step = TIME ? 1 : d;
        this->x += TIME ? row * pitch : (long long)batch * l * pitch + channel;
        if (past) this->past = past + row * (TAPS - 1);
    }

    __device__ __forceinline__ long long offset(int t) const { return base + t * step; }

    // x at any time; 0 before what is known, and behind the end
    __device__ __forceinline__ ACCUM at(int t) const
    {
        if (t >= l) return 0;
        if (t >= 0) return load(x + (TIME ? t : (long long)t * pitch));
        return past && t > -TAPS ? load(past + t + TAPS - 1) : (ACCUM)0;
    }
};

__device__ __forceinline__ ACCUM sigmoid(ACCUM x) { return 1 / (1 + exp(-x)); }
__device__ __forceinline__ ACCUM activated(ACCUM p) { return SILU ? p * sigmoid(p) : p; }

// The block's sequence, channels and first step, of `steps` a block
struct Place {
    int batch, channel, start;
    bool here;

    __device__ __forceinline__ Place(int d, int blocks, int steps)
    {
        int block = blockIdx.x % blocks, rest = blockIdx.x / blocks;
        if (TIME) {
            batch = rest / d, channel = rest % d, start = block * steps;
            here = true;
        } else {
            int groups = (d + THREADS - 1) / THREADS;
            batch = rest / groups, channel = rest % groups * THREADS + threadIdx.x;
            start = block * steps;
            here = channel < d;
        }
    }
};

// blocks: along time
extern "C" __global__ void __launch_bounds__(THREADS) conv(
    const SCALAR* __restrict__ x, const SCALAR* __restrict__ weight,
    const SCALAR* __restrict__ bias, const SCALAR* __restrict__ past, SCALAR* __restrict__ y,
    int d, int l, int pitch, int blocks)
{
    const Place at(d, blocks, TIME ? RUN * THREADS : RUN);
    if (!at.here) return;
    const Line line(x, past, at.batch, at.channel, d, l, pitch);
    ACCUM taps[TAPS], offset = bias ? load(bias + at.channel) : (ACCUM)0;
#pragma unroll
    for (int j = 0; j < TAPS; j++) taps[j] = load(weight + (long long)at.channel * TAPS + j);
    if (TIME) {
#pragma unroll
        for (int run = 0; run < RUN; run++) {
            int t = at.start + run * THREADS + threadIdx.x;
            if (t >= l) break;
            ACCUM p = offset;
#pragma unroll
            for (int j = 0; j < TAPS; j++)
                p += taps[j] * line.at(t - TAPS + 1 + j);
            store(y + line.offset(t), activated(p));
        }
        return;
    }
    ACCUM window[TAPS - 1 + BATCH];
#pragma unroll
    for (int j = 0; j < TAPS - 1; j++)
        window[j] = line.at(at.start - TAPS + 1 + j);
    for (int start = at.start; start < min(at.start + RUN, l); start += BATCH) {
#pragma unroll
        for (int i = 0; i < BATCH; i++)
            window[TAPS - 1 + i] = start + i < l
                ? load(line.x + (long long)(start + i) * pitch) : (ACCUM)0;
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            ACCUM p = offset;
#pragma unroll
            for (int j = 0; j < TAPS; j++) p += taps[j] * window[i + j];
            if (start + i < l)
                store(y + line.offset(start + i), activated(p));
        }
#pragma unroll
        for (int j = 0; j < TAPS - 1; j++) window[j] = window[BATCH + j];
    }
}

// The cotangent of p_t, g_t or g_t silu'(p_t), given what p_t was made of
__device__ __forceinline__ ACCUM pulled(
    ACCUM g, const ACCUM* taps, const ACCUM* window, ACCUM offset)
{
    if (!SILU) return g;
    ACCUM p = offset;
#pragma unroll
    for (int j = 0; j < TAPS; j++) p += taps[j] * window[j];
    ACCUM open = sigmoid(p);
    return g * open * (1 + p * (1 - open));
}

// With gp_t the cotangent of p_t: gx_s = sum_j w_j gp_(s+k-1-j) from s = 1 - k on, before 0 of the
// past; gw_j = sum_t gp_t x_(t-k+1+j). The first block also takes the steps before 0. parts:
// (b, blocks, d TAPS + d), of the gradients of weight and bias.
extern "C" __global__ void __launch_bounds__(THREADS) conv_vjp(
    const SCALAR* __restrict__ g, const SCALAR* __restrict__ x, const SCALAR* __restrict__ weight,
    const SCALAR* __restrict__ bias, const SCALAR* __restrict__ past, SCALAR* __restrict__ gx,
    ACCUM* __restrict__ parts, SCALAR* __restrict__ gpast, int d, int l, int pitch, int blocks)
{
    __shared__ ACCUM near[THREADS + TAPS];  // gp of the block's steps, and of TAPS - 1 behind them
    const Place at(d, blocks, TIME ? RUN * THREADS : RUN);
    const Line line(x, past, at.batch, at.channel, d, l, pitch);
    int block = blockIdx.x % blocks;
    ACCUM taps[TAPS], gtaps[TAPS], window[TAPS], gsum = 0, offset = 0;
    if (at.here && bias) offset = load(bias + at.channel);
#pragma unroll
    for (int j = 0; j < TAPS; j++) {
        taps[j] = at.here ? load(weight + (long long)at.channel * TAPS + j) : (ACCUM)0;
        gtaps[j] = 0;
        window[j] = 0;
    }

    if (TIME) {
        int first = block ? at.start : 1 - TAPS;
        int behind = min(at.start + RUN * THREADS, l);
        for (int start = first; start < behind; start += THREADS) {
            for (int i = threadIdx.x; i < THREADS + TAPS - 1; i += THREADS) {
                int t = start + i;
                ACCUM gp = 0;
                if (t >= 0 && t < l) {
#pragma unroll
                    for (int j = 0; j < TAPS; j++)
                        window[j] = line.at(t - TAPS + 1 + j);
                    gp = load(g + line.offset(t));
                    gp = pulled(gp, taps, window, offset);
                    if (i < THREADS && t < behind) {
                        gsum += gp;
#pragma unroll
                        for (int j = 0; j < TAPS; j++) gtaps[j] += gp * window[j];
                    }
                }
                near[i] = gp;
            }
            __syncthreads();
            int t = start + threadIdx.x;
            if (t < behind) {
                ACCUM sum = 0;
#pragma unroll
                for (int j = 0; j < TAPS; j++) sum += taps[j] * near[threadIdx.x + TAPS - 1 - j];
                if (t >= 0)
                    store(gx + line.offset(t), sum);
                else if (gpast)
                    store(gpast + ((long long)at.batch * d + at.channel) * (TAPS - 1) + t + TAPS - 1,
                        sum);
            }
            __syncthreads();
        }
        gsum = block_sum(gsum);
#pragma unroll
        for (int j = 0; j < TAPS; j++) gtaps[j] = block_sum(gtaps[j]);
    } else if (at.here) {
        // At step t, gx of step t - TAPS + 1 is complete. Arrays begin TAPS - 1 steps before.
        int first = block ? at.start : 1 - TAPS, behind = min(at.start + RUN, l);
        ACCUM seen[TAPS - 1 + BATCH], pulls[TAPS - 1 + BATCH];
#pragma unroll
        for (int j = 0; j < TAPS - 1; j++) {
            seen[j] = line.at(first - TAPS + 1 + j);
            pulls[j] = 0;
        }
        for (int start = first; start < behind + TAPS - 1; start += BATCH) {
#pragma unroll
            for (int i = 0; i < BATCH; i++) {
                int t = start + i;
                bool inside = t >= 0 && t < l && t < behind + TAPS - 1;
                seen[TAPS - 1 + i] = line.at(t);
                pulls[TAPS - 1 + i]
                    = inside ? load(g + line.offset(t)) : (ACCUM)0;
            }
#pragma unroll
            for (int i = 0; i < BATCH; i++) {
                int t = start + i, s = t - TAPS + 1;
                ACCUM gp = pulled(pulls[TAPS - 1 + i], taps, seen + i, offset);
                pulls[TAPS - 1 + i] = gp;
                if (t >= behind) gp = 0;  // another block's
                gsum += gp;
#pragma unroll
                for (int j = 0; j < TAPS; j++) gtaps[j] += gp * seen[i + j];
                if (s < first || s >= behind) continue;
                ACCUM sum = 0;
#pragma unroll
                for (int j = 0; j < TAPS; j++) sum += taps[j] * pulls[i + TAPS - 1 - j];
                if (s >= 0)
                    store(gx + line.offset(s), sum);
                else if (gpast)
                    store(gpast + ((long long)at.batch * d + at.channel) * (TAPS - 1) + t, sum);
            }
#pragma unroll
            for (int j = 0; j < TAPS - 1; j++) {
                seen[j] = seen[BATCH + j];
                pulls[j] = pulls[BATCH + j];
            }
        }
    }
    if (!at.here || (TIME && threadIdx.x)) return;
    ACCUM* own = parts + ((long long)at.batch * blocks + block) * d * (TAPS + 1);
    own[(long long)d * TAPS + at.channel] = gsum;
#pragma unroll
    for (int j = 0; j < TAPS; j++) own[(long long)at.channel * TAPS + j] = gtaps[j];
}
