// Sums of complex exponentials, y_t = Re sum_n w_n e^(s_n t), and what their gradient needs.
//
// Few powers are exponentials: a thread takes one and goes on by products with e^(s THREADS), or
// with e^(s WARP), which all threads share. Nothing but sums is in memory.
#include "reduction.cuh"

#define THREADS 128
#define RUN 8     // steps of a thread, THREADS apart
#define TERMS 32  // that lie in shared memory at a time
#define PULLED 8  // warps that sum over time
#define EACH 4    // terms of each of them
#define LINE 1024 // steps of g in shared memory

struct Number { ACCUM re, im; };

__device__ __forceinline__ Number times(Number x, Number y)
{
    return Number{x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re};
}

// s: its real part, and its imaginary part in half turns, in two parts. Their products with t are
// rounded nowhere that matters, and whole turns are taken off before.
struct Exponent {
    ACCUM rate, turns, rest;

    // e^(s t)
    __device__ __forceinline__ Number power(ACCUM t) const
    {
        ACCUM whole = turns * t;
        ACCUM lost = fma(turns, t, -whole) + rest * t;
        ACCUM size = exp(rate * t), sine, cosine;
        half_turns(whole - 2 * rint(whole / 2) + lost, sine, cosine);
        return Number{size * cosine, size * sine};
    }
};

__device__ __forceinline__ Exponent exponent_of(Number s)
{
    const double inverse = 0.31830988618379069;  // 1 / pi, and what a double lacks of it
    const double lacking = -1.9678676675182486e-17;
    const ACCUM front = (ACCUM)inverse;
    const ACCUM back = (ACCUM)((inverse - (double)front) + lacking);
    ACCUM turns = s.im * front;
    return Exponent{s.re, turns, fma(s.im, front, -turns) + s.im * back};
}

__device__ __forceinline__ Number pair(const SCALAR* pairs, long long i)
{
    return Number{load(pairs + 2 * i), load(pairs + 2 * i + 1)};
}

struct Term {
    Number weight, step;
    Exponent exponent;
};

// weights: (lines, n, 2), exponents: (d, n, 2), d a divisor of lines, y: (lines, l). Grid: lines
// times tiles of THREADS RUN steps.
extern "C" __global__ void __launch_bounds__(THREADS) exponential_sum(
    const SCALAR* __restrict__ weights, const SCALAR* __restrict__ exponents,
    SCALAR* __restrict__ y, int d, int n, int l)
{
    __shared__ Term terms[TERMS];
    int tiles = (l - 1) / (THREADS * RUN) + 1;
    long long line = blockIdx.x / tiles;
    int start = blockIdx.x % tiles * (THREADS * RUN) + threadIdx.x;
    ACCUM sums[RUN];
#pragma unroll
    for (int i = 0; i < RUN; i++) sums[i] = 0;
    for (int first = 0; first < n; first += TERMS) {
        int own = first + threadIdx.x;
        __syncthreads();  // the terms have been read
        if (threadIdx.x < TERMS && own < n) {
            Number s = pair(exponents, line % d * n + own);
            Term term;
            term.weight = pair(weights, line * n + own);
            term.exponent = exponent_of(s);
            term.step = term.exponent.power(THREADS);
            terms[threadIdx.x] = term;
        }
        __syncthreads();
        int count = min(TERMS, n - first);
#pragma unroll 1
        for (int k = 0; k < count; k++) {
            const Term& term = terms[k];
            Number part = times(term.weight, term.exponent.power(start));
#pragma unroll
            for (int i = 0; i < RUN; i++) {
                sums[i] += part.re;
                part = times(part, term.step);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < RUN; i++)
        if (start + i * THREADS < l) store(y + line * l + start + i * THREADS, sums[i]);
}

// moments: (segments, lines, n, 4), sum_t g_t e^(s t) and sum_t t g_t e^(s t) over the steps of a
// segment, real and imaginary parts. Grid: lines times groups of PULLED EACH terms, and segments.
extern "C" __global__ void __launch_bounds__(PULLED * WARP) pull_moments(
    const SCALAR* __restrict__ g, const SCALAR* __restrict__ exponents,
    ACCUM* __restrict__ moments, long long lines, int d, int n, int l, int segment)
{
    __shared__ ACCUM steps[LINE];
    int groups = (n - 1) / (PULLED * EACH) + 1;
    long long line = blockIdx.x / groups;
    int lane = threadIdx.x % WARP;
    int first = (blockIdx.x % groups * PULLED + threadIdx.x / WARP) * EACH;
    Exponent each[EACH];
    Number step[EACH], sums[EACH], slopes[EACH];
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        Number s = first + k < n ? pair(exponents, line % d * n + first + k) : Number{0, 0};
        each[k] = exponent_of(s);
        step[k] = each[k].power(WARP);
        sums[k] = slopes[k] = Number{0, 0};
    }
    int begin = blockIdx.y * segment, end = min(begin + segment, l);
    for (int start = begin; start < end; start += LINE) {
        int count = min(LINE, end - start);
        __syncthreads();  // the steps have been read
        for (int i = threadIdx.x; i < count; i += PULLED * WARP)
            steps[i] = load(g + line * l + start + i);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            if (first + k >= n) break;
            Number power = each[k].power(start + lane);
#pragma unroll 4
            for (int i = lane; i < count; i += WARP) {
                ACCUM re = steps[i] * power.re, im = steps[i] * power.im, t = start + i;
                sums[k].re += re;
                sums[k].im += im;
                slopes[k].re += t * re;
                slopes[k].im += t * im;
                power = times(power, step[k]);
            }
        }
    }
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        ACCUM values[4] = {sums[k].re, sums[k].im, slopes[k].re, slopes[k].im};
        long long at = (blockIdx.y * lines + line) * n + first + k;
#pragma unroll
        for (int part = 0; part < 4; part++) {
            ACCUM value = warp_sum(values[part]);
            if (lane == 0 && first + k < n) moments[4 * at + part] = value;
        }
    }
}

// dweights: (lines, n, 2), dexponents: (d, n, 2), a thread has a term and adds up segments and lines
extern "C" __global__ void pull_terms(
    const SCALAR* __restrict__ weights, const ACCUM* __restrict__ moments,
    SCALAR* __restrict__ dweights, SCALAR* __restrict__ dexponents, long long lines, int d, int n,
    int segments)
{
    long long terms = (long long)d * n, term = position();
    if (term >= terms) return;
    Number total = {0, 0};
    for (long long at = term; at < lines * n; at += terms) {
        Number sum = {0, 0}, slope = {0, 0};
        for (int segment = 0; segment < segments; segment++) {
            const ACCUM* found = moments + 4 * (segment * lines * n + at);
            sum.re += found[0];
            sum.im += found[1];
            slope.re += found[2];
            slope.im += found[3];
        }
        store(dweights + 2 * at, sum.re);
        store(dweights + 2 * at + 1, -sum.im);
        slope = times(pair(weights, at), slope);
        total.re += slope.re;
        total.im -= slope.im;
    }
    store(dexponents + 2 * term, total.re);
    store(dexponents + 2 * term + 1, total.im);
}
