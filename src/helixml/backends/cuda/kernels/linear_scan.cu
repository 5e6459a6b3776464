// The linear recurrence h_t = a_t h_(t-1) + b_t along time, from the last step to the first with
// REVERSE. Numbers are complex with COMPLEX, pairs of reals in memory.
//
// Two steps join to one, (a, b) then (a', b') to (a a', a' b + b'). Where time is contiguous (TIME),
// a block takes a line, chunk after chunk: each thread joins ITEMS steps, warps join them by
// exchanges, and the state goes on to the next chunk. Where another axis is, a thread walks a line.
// Few long lines are cut into segments: `segment_ends` joins the steps of each, `carry` finds the
// state before each, and `scan` walks them.
//
// The launcher defines TIME, REVERSE, COMPLEX, FIXED (whether a is the same at all times), THREADS
// and ITEMS.
#include "prelude.cuh"

#define WARPS (THREADS / WARP)
#define RUN 8  // steps that a thread reads at a time

#if COMPLEX
struct Number { ACCUM re, im; };
__device__ __forceinline__ Number number_of(ACCUM x) { return Number{x, 0}; }
__device__ __forceinline__ Number times(Number x, Number y)
{
    return Number{x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re};
}
__device__ __forceinline__ Number sum(Number x, Number y) { return Number{x.re + y.re, x.im + y.im}; }
__device__ __forceinline__ bool is_zero(Number x) { return x.re == 0 && x.im == 0; }
__device__ __forceinline__ Number from_below(Number x, int distance)
{
    return Number{__shfl_up_sync(ALL_LANES, x.re, distance),
        __shfl_up_sync(ALL_LANES, x.im, distance)};
}
__device__ __forceinline__ Number get(const SCALAR* from, long long i)
{
    return Number{load(from + 2 * i), load(from + 2 * i + 1)};
}
__device__ __forceinline__ void put(SCALAR* to, long long i, Number x)
{
    store(to + 2 * i, x.re);
    store(to + 2 * i + 1, x.im);
}
__device__ __forceinline__ Number get_wide(const ACCUM* from, long long i)
{
    return Number{from[2 * i], from[2 * i + 1]};
}
__device__ __forceinline__ void put_wide(ACCUM* to, long long i, Number x)
{
    to[2 * i] = x.re;
    to[2 * i + 1] = x.im;
}
#else
typedef ACCUM Number;
__device__ __forceinline__ Number number_of(ACCUM x) { return x; }
__device__ __forceinline__ Number times(Number x, Number y) { return x * y; }
__device__ __forceinline__ Number sum(Number x, Number y) { return x + y; }
__device__ __forceinline__ bool is_zero(Number x) { return x == 0; }
__device__ __forceinline__ Number from_below(Number x, int distance)
{
    return __shfl_up_sync(ALL_LANES, x, distance);
}
__device__ __forceinline__ Number get(const SCALAR* from, long long i) { return load(from + i); }
__device__ __forceinline__ void put(SCALAR* to, long long i, Number x) { store(to + i, x); }
__device__ __forceinline__ Number get_wide(const ACCUM* from, long long i) { return from[i]; }
__device__ __forceinline__ void put_wide(ACCUM* to, long long i, Number x) { to[i] = x; }
#endif

struct Step { Number a, b; };

// The state after a step. Of nothing comes nothing, even where products of many a overflow.
__device__ __forceinline__ Number after(Step step, Number h)
{
    return is_zero(h) ? step.b : sum(times(step.a, h), step.b);
}

__device__ __forceinline__ Step joined(Step first, Step second)
{
    return Step{times(first.a, second.a), after(second, first.b)};
}

// The steps of a line, counted in the order in which the scan takes them
struct Line {
    const SCALAR* a;
    const SCALAR* b;
    long long number, base, step;  // which line it is, where its first step lies, how far the next
    bool starts;                   // from a state; else the first step takes b alone

    __device__ __forceinline__ Line(
        const SCALAR* a, const SCALAR* b, long long number, int l, int d, bool starts)
        : a(a), b(b), number(number), starts(starts)
    {
        base = TIME ? number * l : number / d * l * d + number % d;
        step = TIME ? 1 : d;
        if (REVERSE) base += (l - 1) * step, step = -step;
    }

    __device__ __forceinline__ long long offset(int t) const { return base + t * step; }

    __device__ __forceinline__ Step at(int t) const
    {
        long long i = offset(t);
        Step result = {get(a, FIXED ? number : i), get(b, i)};
        if (t == 0 && !starts) result.a = number_of(0);
        return result;
    }
};

template <bool OUTPUT>
__device__ __forceinline__ void walk(
    const SCALAR* a, const SCALAR* b, int l, int d, bool starts, long long size, int segment,
    const ACCUM* entries, SCALAR* h, ACCUM* ends)
{
    int begin = blockIdx.y * segment, end = min(begin + segment, l);
    if (!TIME) {
        if (position() >= size) return;
        const Line line(a, b, position(), l, d, starts);
        long long place = (long long)blockIdx.y * size + line.number;
        Number state = OUTPUT && entries ? get_wide(entries, place) : number_of(0);
        Step whole = {number_of(1), number_of(0)};
        int t = begin;
        for (; t + RUN <= end; t += RUN) {
            Step steps[RUN];  // all read before the first is used
#pragma unroll
            for (int i = 0; i < RUN; i++) steps[i] = line.at(t + i);
#pragma unroll
            for (int i = 0; i < RUN; i++) {
                if (OUTPUT) {
                    state = after(steps[i], state);
                    put(h, line.offset(t + i), state);
                } else {
                    whole = joined(whole, steps[i]);
                }
            }
        }
#pragma unroll 1
        for (; t < end; t++) {
            Step step = line.at(t);
            if (OUTPUT) {
                state = after(step, state);
                put(h, line.offset(t), state);
            } else {
                whole = joined(whole, step);
            }
        }
        if (!OUTPUT) {
            put_wide(ends, 2 * place, whole.a);
            put_wide(ends, 2 * place + 1, whole.b);
        }
        return;
    }

    __shared__ Step of_warps[2][WARPS];
    const Line line(a, b, blockIdx.x, l, d, starts);
    long long place = (long long)blockIdx.y * size + line.number;
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, turn = 0;
    const Step nothing = {number_of(1), number_of(0)};
    Number state = OUTPUT && entries ? get_wide(entries, place) : number_of(0);
    Step whole = nothing;
    for (int start = begin; start < end; start += THREADS * ITEMS, turn ^= 1) {
        Step steps[ITEMS], own = nothing;
        int first = start + threadIdx.x * ITEMS;
#pragma unroll
        for (int i = 0; i < ITEMS; i++) {
            steps[i] = first + i < end ? line.at(first + i) : nothing;
            own = joined(own, steps[i]);
        }
#pragma unroll
        for (int distance = 1; distance < WARP; distance *= 2) {
            Step below = {from_below(own.a, distance), from_below(own.b, distance)};
            if (lane >= distance) own = joined(below, own);
        }
        if (lane == WARP - 1) of_warps[turn][warp] = own;
        Step below = {from_below(own.a, 1), from_below(own.b, 1)};
        if (lane == 0) below = nothing;
        __syncthreads();
        Number mine = state;
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            if (w < warp) mine = after(of_warps[turn][w], mine);
            state = after(of_warps[turn][w], state);
            if (!OUTPUT) whole = joined(whole, of_warps[turn][w]);
        }
        if (!OUTPUT) continue;
        mine = after(below, mine);
#pragma unroll
        for (int i = 0; i < ITEMS; i++) {
            mine = after(steps[i], mine);
            if (first + i < end) put(h, line.offset(first + i), mine);
        }
    }
    if (!OUTPUT && threadIdx.x == 0) {
        put_wide(ends, 2 * place, whole.a);
        put_wide(ends, 2 * place + 1, whole.b);
    }
}

// a, b, h: (size, l) with TIME, else (size / d, l, d); a is (size) with FIXED. entries: states
// before each segment, (segments, size), or null.
extern "C" __global__ void __launch_bounds__(THREADS) scan(
    const SCALAR* __restrict__ a, const SCALAR* __restrict__ b, const ACCUM* __restrict__ entries,
    SCALAR* __restrict__ h, int l, int d, long long size, int segment, bool starts)
{
    walk<true>(a, b, l, d, starts, size, segment, entries, h, 0);
}

// ends: the steps of each segment as one, (segments, size, 2)
extern "C" __global__ void __launch_bounds__(THREADS) segment_ends(
    const SCALAR* __restrict__ a, const SCALAR* __restrict__ b, ACCUM* __restrict__ ends, int l,
    int d, long long size, int segment, bool starts)
{
    walk<false>(a, b, l, d, starts, size, segment, 0, 0, ends);
}

// entries: the state before each segment, from the first one (size) or 0
extern "C" __global__ void carry(
    const ACCUM* __restrict__ ends, const ACCUM* __restrict__ first, ACCUM* __restrict__ entries,
    int segments, long long size)
{
    for (long long line = position(); line < size; line += positions()) {
        Number state = first ? get_wide(first, line) : number_of(0);
        for (int segment = 0; segment < segments; segment++) {
            long long place = segment * size + line;
            put_wide(entries, place, state);
            state = after(Step{get_wide(ends, 2 * place), get_wide(ends, 2 * place + 1)}, state);
        }
    }
}
