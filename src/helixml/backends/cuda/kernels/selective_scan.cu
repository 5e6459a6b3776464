// The selective scan and its gradient. For each sequence and channel, with n states h:
//   s_t = softplus(delta_t + bias)
//   h_t = exp(s_t A) h_(t-1) + s_t B_t u_t
//   y_t = (C_t . h_t + D u_t) silu(z_t)
//
// A block walks a tile of CHANNELS channels and STEPS steps after the other. LANES neighbouring
// threads share a channel, each with EACH of its states in registers, so that a step needs no
// barrier. What does not depend on the state is prepared for a whole tile at once, by all threads,
// in the order in which the arrays lie in memory: with time contiguous (TIME) or channels.
//
// Long sequences of few channels are cut into segments, one for each blockIdx.y. `segment_ends`
// finds where each would end if it began with 0, `carry` where it begins. The state before every
// tile is kept for the gradient, which computes states again within a tile, keeps them in
// registers and walks back. B and C are shared by the channels of a group: their gradients are
// summed over the channels of a warp, of a block, and at last of all blocks by `sum_parts`.
//
// The launcher defines TIME, STATES, EACH, LANES, CHANNELS, STEPS, PIECE, FLUSH, SOFTPLUS,
// VARYING_B and VARYING_C (whether B and C depend on time), and
// FORWARD_BLOCKS and BACKWARD_BLOCKS: how many a multiprocessor is to hold at least, which bounds
// registers (told nothing, compilers save some for more).
#include "prelude.cuh"

// Compilers for sm_100 keep more numbers at a time: a fourth block would put some into memory.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000 && BACKWARD_BLOCKS == 4
#undef BACKWARD_BLOCKS
#define BACKWARD_BLOCKS 3
#endif

#define THREADS (CHANNELS * LANES)
#define WARPS ((THREADS + WARP - 1) / WARP)
#define WIDTH (EACH * LANES)  // states of a channel, filled up with zeros
#define PER_THREAD ((STEPS + LANES - 1) / LANES)  // entries of a tile
#define ROWS_PER_THREAD ((STEPS * WIDTH + THREADS - 1) / THREADS)  // of a tile of B or C
#define AHEAD (ROWS_PER_THREAD <= 4)  // whether they are read a tile ahead, into registers
#define SHARED_GRADIENTS (EACH * (VARYING_B + VARYING_C))

#define LOG2_E ((ACCUM)1.4426950408889634074)
#define LN_2 ((ACCUM)0.69314718055994530942)

// Rows of z, B and C may be parts of longer ones: pitches are how far they lie apart
struct Sizes { int d, l, groups, b_groups, c_groups, segment, z_pitch, b_pitch, c_pitch; };

// What a block works on, and which entries of a tile a thread prepares
struct Place {
    int batch, group, part, parts, first, channels, begin, end;
    int step, inner, further;  // the first entry; how far the next one is
    int pitch, column;         // of rows without gaps; where in its row an entry is
    long long row;

    __device__ __forceinline__ explicit Place(const Sizes& sizes)
    {
        int share = sizes.d / sizes.groups;
        parts = (share + CHANNELS - 1) / CHANNELS;
        part = blockIdx.x % parts;
        group = blockIdx.x / parts % sizes.groups;
        batch = blockIdx.x / parts / sizes.groups;
        first = group * share + part * CHANNELS;
        channels = min(CHANNELS, share - part * CHANNELS);
        begin = blockIdx.y * sizes.segment;
        end = min(begin + sizes.segment, sizes.l);
        if (TIME) {
            step = threadIdx.x % STEPS, inner = threadIdx.x / STEPS, further = THREADS / STEPS;
            row = (long long)batch * sizes.d + first + inner, column = step, pitch = sizes.l;
        } else {
            step = threadIdx.x / CHANNELS, inner = threadIdx.x % CHANNELS, further = LANES;
            row = (long long)batch * sizes.l + step, column = first + inner, pitch = sizes.d;
        }
    }

    __device__ __forceinline__ int step_of(int k) const { return TIME ? step : step + k * further; }
    __device__ __forceinline__ int inner_of(int k) const { return TIME ? inner + k * further : inner; }
    __device__ __forceinline__ bool has(int k) const
    {
        return step_of(k) < STEPS && inner_of(k) < CHANNELS;
    }
    __device__ __forceinline__ bool inside(int k, int start) const
    {
        return has(k) && inner_of(k) < channels && start + step_of(k) < end;
    }
    __device__ __forceinline__ long long offset(int k, int start, int pitch) const
    {
        return (row + k * further + (TIME ? 0 : start)) * pitch + column + (TIME ? start : 0);
    }
    __device__ __forceinline__ long long offset(int k, int start) const
    {
        return offset(k, start, pitch);
    }
    // What a row of d entries has for the channel of an entry; 0 without a row
    __device__ __forceinline__ ACCUM of_channel(const SCALAR* row, int k) const
    {
        return row && inner_of(k) < channels ? load(row + first + inner_of(k)) : (ACCUM)0;
    }
};

__device__ __forceinline__ ACCUM sigmoid(ACCUM x) { return 1 / (1 + exp(-x)); }

__device__ __forceinline__ ACCUM softplus(ACCUM x)
{
    return (x > 0 ? x : (ACCUM)0) + log1p(exp(-fabs(x)));
}

// The numbers that a thread has of a step's B or C, side by side
#define GROUP_BYTES (EACH * (int)sizeof(ACCUM))
struct alignas(GROUP_BYTES < 16 ? GROUP_BYTES : 16) Group { ACCUM at[EACH]; };

// B or C of a tile, (b, groups, l, n), as rows of groups. They are read in one place and written to
// shared memory in another.
struct Rows {
    ACCUM values[AHEAD ? ROWS_PER_THREAD : 1];
    const SCALAR* from;
    int pitch;

    __device__ __forceinline__ Rows(
        const SCALAR* array, int groups, int pitch, const Sizes& sizes, const Place& at)
        : pitch(pitch)
    {
        long long line = (long long)at.batch * groups + (groups == 1 ? 0 : at.group);
        from = array + line * sizes.l * pitch;
    }

    __device__ __forceinline__ ACCUM entry(int i, int start, int end) const
    {
        int t = start + i / WIDTH, state = i % WIDTH;
        bool inside = i < STEPS * WIDTH && t < end && state < STATES;
        return inside ? load(from + (long long)t * pitch + state) : (ACCUM)0;
    }

    __device__ __forceinline__ void read(int start, int end)
    {
        if (!AHEAD) return;
#pragma unroll
        for (int k = 0; k < ROWS_PER_THREAD; k++)
            values[AHEAD ? k : 0] = entry(k * THREADS + threadIdx.x, start, end);
    }

    __device__ __forceinline__ void write(Group (*rows)[LANES], int start, int end) const
    {
        ACCUM* flat = reinterpret_cast<ACCUM*>(rows);
#pragma unroll
        for (int k = 0; k < ROWS_PER_THREAD; k++) {
            int i = k * THREADS + threadIdx.x;
            if (i < STEPS * WIDTH) flat[i] = AHEAD ? values[AHEAD ? k : 0] : entry(i, start, end);
        }
    }
};

// Read the numbers that a thread has of (..., d, n) at its line of channels; zeros where none are
template <class T>
__device__ __forceinline__ Group read_states(const T* from, long long line, bool here)
{
    int state = threadIdx.x % LANES * EACH;
    Group h;
#pragma unroll
    for (int k = 0; k < EACH; k++)
        h.at[k] = here && from && state + k < STATES
            ? (ACCUM)widened(from[line * STATES + state + k]) : (ACCUM)0;
    return h;
}

template <class T>
__device__ __forceinline__ void write_states(T* to, long long line, bool here, const Group& h)
{
    int state = threadIdx.x % LANES * EACH;
#pragma unroll
    for (int k = 0; k < EACH; k++)
        if (here && state + k < STATES) narrow(h.at[k], to[line * STATES + state + k]);
}

__device__ __forceinline__ Group rates(const SCALAR* A, int channel, bool here)
{
    Group a = read_states(A, channel, here);
#pragma unroll
    for (int k = 0; k < EACH; k++) a.at[k] *= LOG2_E;
    return a;
}

// A thread's entries of a tile of u, delta and z
struct Entries { ACCUM u[PER_THREAD], delta[PER_THREAD], z[PER_THREAD]; };

__device__ __forceinline__ void read_entries(
    const SCALAR* u, const SCALAR* delta, const SCALAR* z, const Sizes& sizes, const Place& at,
    int start, Entries& entries)
{
#pragma unroll
    for (int k = 0; k < PER_THREAD; k++) {
        bool inside = at.inside(k, start);
        long long offset = at.offset(k, start);
        entries.u[k] = inside ? load(u + offset) : (ACCUM)0;
        entries.delta[k] = inside ? load(delta + offset) : (ACCUM)0;
        entries.z[k] = inside && z ? load(z + at.offset(k, start, sizes.z_pitch)) : (ACCUM)0;
    }
}

// Sum each of COUNT values over the lanes that differ in the bits FROM, FROM / 2, ..., TO of their
// numbers. Partners send each other half of their values and keep the sums of the rest, so that a
// value costs about one exchange. Then values[0...] are the sums of the values from `first` on,
// `count` of them; where more lanes have the same, one is the owner.
struct Share { int first, count; bool owner; };

template <int COUNT, int FROM, int TO>
__device__ __forceinline__ Share scattered_sums(ACCUM* values)
{
    Share share = {0, COUNT, true};
#pragma unroll
    for (int distance = FROM; distance >= TO; distance /= 2) {
        bool upper = threadIdx.x & distance;
        if (share.count > 1) {
            share.count /= 2;
#pragma unroll
            for (int i = 0; i < COUNT / 2; i++) {
                if (i >= share.count) continue;
                ACCUM low = values[i], high = values[i + share.count];
                values[i] = (upper ? high : low)
                    + __shfl_xor_sync(ALL_LANES, upper ? low : high, distance);
            }
            share.first += upper ? share.count : 0;
        } else {
            values[0] += __shfl_xor_sync(ALL_LANES, values[0], distance);
            share.owner = share.owner && !upper;
        }
    }
    return share;
}

// Walk a segment. Of OUTPUT, write y and the states before each tile; else where it ends from 0,
// and the sum of its steps.
template <bool OUTPUT>
__device__ __forceinline__ void walk(
    const SCALAR* u, const SCALAR* delta, const SCALAR* A, const SCALAR* B, const SCALAR* C,
    const SCALAR* D, const SCALAR* z, const SCALAR* delta_bias, const ACCUM* entries, SCALAR* y,
    ACCUM* states, SCALAR* last, ACCUM* ends, ACCUM* totals, const Sizes& sizes)
{
    __shared__ ACCUM steps[STEPS][CHANNELS + 1];
    __shared__ ACCUM drives[STEPS][CHANNELS + 1];
    __shared__ ACCUM outputs[STEPS][CHANNELS + 1];
    __shared__ Group B_rows[STEPS][LANES];
    __shared__ Group C_rows[STEPS][LANES];
    const Place at(sizes);
    int own = threadIdx.x / LANES, lane = threadIdx.x % LANES, channel = at.first + own;
    bool here = own < at.channels;
    int tiles = (sizes.l + STEPS - 1) / STEPS;
    long long line = ((long long)at.batch * gridDim.y + blockIdx.y) * sizes.d + channel;

    const Group a = rates(A, channel, here);
    const Group b = read_states(VARYING_B ? (const SCALAR*)0 : B, channel, here);
    const Group c = read_states(VARYING_C ? (const SCALAR*)0 : C, channel, here);
    Group h = read_states(entries, line, here);
    ACCUM total = 0, added[PER_THREAD], skip[PER_THREAD];
#pragma unroll
    for (int k = 0; k < PER_THREAD; k++) {
        added[k] = at.of_channel(delta_bias, k);
        skip[k] = at.of_channel(D, k);
    }

    Entries now, next;
    Rows B_next(B, sizes.b_groups, sizes.b_pitch, sizes, at);
    Rows C_next(C, sizes.c_groups, sizes.c_pitch, sizes, at);
    read_entries(u, delta, OUTPUT ? z : 0, sizes, at, at.begin, next);
    if (VARYING_B) B_next.read(at.begin, at.end);
    if (VARYING_C && OUTPUT) C_next.read(at.begin, at.end);
    for (int start = at.begin; start < at.end; start += STEPS) {
        now = next;
#pragma unroll
        for (int k = 0; k < PER_THREAD; k++) {
            if (!at.has(k)) continue;
            ACCUM step = now.delta[k] + added[k];
            if (SOFTPLUS) step = softplus(step);
            if (!at.inside(k, start)) step = 0;  // changes no state
            steps[at.step_of(k)][at.inner_of(k)] = step;
            drives[at.step_of(k)][at.inner_of(k)] = step * now.u[k];
        }
        if (VARYING_B) B_next.write(B_rows, start, at.end);
        if (VARYING_C && OUTPUT) C_next.write(C_rows, start, at.end);
        __syncthreads();
        read_entries(u, delta, OUTPUT ? z : 0, sizes, at, start + STEPS, next);
        if (VARYING_B) B_next.read(start + STEPS, at.end);
        if (VARYING_C && OUTPUT) C_next.read(start + STEPS, at.end);
        if (OUTPUT && states) {
            long long tile = ((long long)at.batch * tiles + start / STEPS) * sizes.d + channel;
            write_states(states, tile, here, h);
        }
        ACCUM sums[STEPS];
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            ACCUM step = steps[s][own], drive = drives[s][own];
            const Group B_t = VARYING_B ? B_rows[s][lane] : b;
            if (!OUTPUT) total += step;
            sums[s] = 0;
#pragma unroll
            for (int k = 0; k < EACH; k++)
                h.at[k] = exp2(step * a.at[k]) * h.at[k] + drive * B_t.at[k];
            if (!OUTPUT) continue;
            const Group C_t = VARYING_C ? C_rows[s][lane] : c;
#pragma unroll
            for (int k = 0; k < EACH; k++) sums[s] += C_t.at[k] * h.at[k];
        }
        if (OUTPUT) {
            Share share = scattered_sums<STEPS, LANES / 2, 1>(sums);
#pragma unroll
            for (int i = 0; i < STEPS; i++)
                if (i < share.count && share.owner) outputs[share.first + i][own] = sums[i];
        }
        __syncthreads();
        if (!OUTPUT) continue;
#pragma unroll
        for (int k = 0; k < PER_THREAD; k++) {
            if (!at.inside(k, start)) continue;
            ACCUM value = outputs[at.step_of(k)][at.inner_of(k)] + skip[k] * now.u[k];
            if (z) value *= now.z[k] * sigmoid(now.z[k]);
            store(y + at.offset(k, start), value);
        }
    }
    if (!OUTPUT) {
        write_states(ends, line, here, h);
        if (here && lane == 0) totals[line] = total;
    } else if (last && blockIdx.y == gridDim.y - 1) {
        write_states(last, (long long)at.batch * sizes.d + channel, here, h);
    }
}

// entries: states before each segment (b, segments, d, n) or null; states: before each tile
// (b, tiles, d, n) or null; last: (b, d, n) or null.
extern "C" __global__ void __launch_bounds__(THREADS, FORWARD_BLOCKS) scan(
    const SCALAR* __restrict__ u, const SCALAR* __restrict__ delta, const SCALAR* __restrict__ A,
    const SCALAR* __restrict__ B, const SCALAR* __restrict__ C, const SCALAR* __restrict__ D,
    const SCALAR* __restrict__ z, const SCALAR* __restrict__ delta_bias,
    const ACCUM* __restrict__ entries, SCALAR* __restrict__ y, ACCUM* __restrict__ states,
    SCALAR* __restrict__ last, int d, int l, int groups, int b_groups, int c_groups, int segment,
    int z_pitch, int b_pitch, int c_pitch)
{
    walk<true>(u, delta, A, B, C, D, z, delta_bias, entries, y, states, last, 0, 0,
        Sizes{d, l, groups, b_groups, c_groups, segment, z_pitch, b_pitch, c_pitch});
}

// ends: (b, segments, d, n), each as from a state of 0; totals: (b, segments, d), sums of s_t.
extern "C" __global__ void __launch_bounds__(THREADS, FORWARD_BLOCKS) segment_ends(
    const SCALAR* __restrict__ u, const SCALAR* __restrict__ delta, const SCALAR* __restrict__ A,
    const SCALAR* __restrict__ B, const SCALAR* __restrict__ delta_bias, ACCUM* __restrict__ ends,
    ACCUM* __restrict__ totals, int d, int l, int groups, int b_groups, int segment, int b_pitch)
{
    walk<false>(u, delta, A, B, 0, 0, 0, delta_bias, 0, 0, 0, 0, ends, totals,
        Sizes{d, l, groups, b_groups, 1, segment, 0, b_pitch, 0});
}

// Replace what each segment ends with, from 0, by what it begins with, if the first begins with
// `first` (b, d, n) or 0; from the last segment to the first if it goes backward.
extern "C" __global__ void carry(
    const SCALAR* __restrict__ A, const ACCUM* __restrict__ totals, const ACCUM* __restrict__ first,
    ACCUM* __restrict__ ends, int d, int segments, bool backward, long long size)
{
    for (long long i = position(); i < size; i += positions()) {
        long long channel = i / STATES % d, batch = i / STATES / d;
        ACCUM a = load(A + channel * STATES + i % STATES) * LOG2_E;
        ACCUM h = first ? first[i] : (ACCUM)0;
        for (int k = 0; k < segments; k++) {
            int segment = backward ? segments - 1 - k : k;
            long long line = (batch * segments + segment) * d + channel;
            ACCUM* end = ends + line * STATES + i % STATES;
            ACCUM own = *end;
            *end = h;
            h = exp2(totals[line] * a) * h + own;
        }
    }
}

// What each segment adds to the cotangent of the state before it, (b, segments, d, n); totals as
// above. With gh the cotangent of h_t: gh += gp_t C_t, then gh <- exp(s_t A) gh.
extern "C" __global__ void __launch_bounds__(THREADS, FORWARD_BLOCKS) segment_starts(
    const SCALAR* __restrict__ g, const SCALAR* __restrict__ delta, const SCALAR* __restrict__ A,
    const SCALAR* __restrict__ C, const SCALAR* __restrict__ z,
    const SCALAR* __restrict__ delta_bias, ACCUM* __restrict__ starts, ACCUM* __restrict__ totals,
    int d, int l, int groups, int c_groups, int segment, int z_pitch, int c_pitch)
{
    __shared__ ACCUM steps[STEPS][CHANNELS + 1];
    __shared__ ACCUM pulls[STEPS][CHANNELS + 1];
    __shared__ Group C_rows[STEPS][LANES];
    const Sizes sizes = {d, l, groups, 1, c_groups, segment, z_pitch, 0, c_pitch};
    const Place at(sizes);
    int own = threadIdx.x / LANES, lane = threadIdx.x % LANES, channel = at.first + own;
    bool here = own < at.channels;
    const Group a = rates(A, channel, here);
    const Group c = read_states(VARYING_C ? (const SCALAR*)0 : C, channel, here);
    Group gh;
    ACCUM total = 0;
#pragma unroll
    for (int k = 0; k < EACH; k++) gh.at[k] = 0;

    int tiles = (at.end - at.begin + STEPS - 1) / STEPS, start = at.begin + (tiles - 1) * STEPS;
    Entries now;
    Rows C_next(C, c_groups, c_pitch, sizes, at);
    if (tiles > 0) read_entries(g, delta, z, sizes, at, start, now);
    if (tiles > 0 && VARYING_C) C_next.read(start, at.end);
    for (; start >= at.begin; start -= STEPS) {
#pragma unroll
        for (int k = 0; k < PER_THREAD; k++) {
            if (!at.has(k)) continue;
            ACCUM step = now.delta[k] + at.of_channel(delta_bias, k);
            if (SOFTPLUS) step = softplus(step);
            steps[at.step_of(k)][at.inner_of(k)] = at.inside(k, start) ? step : (ACCUM)0;
            pulls[at.step_of(k)][at.inner_of(k)]
                = z ? now.u[k] * now.z[k] * sigmoid(now.z[k]) : now.u[k];
        }
        if (VARYING_C) C_next.write(C_rows, start, at.end);
        __syncthreads();
        if (start > at.begin) {
            read_entries(g, delta, z, sizes, at, start - STEPS, now);
            if (VARYING_C) C_next.read(start - STEPS, at.end);
        }
#pragma unroll
        for (int s = STEPS - 1; s >= 0; s--) {
            ACCUM step = steps[s][own], gp = pulls[s][own];
            const Group C_t = VARYING_C ? C_rows[s][lane] : c;
#pragma unroll
            for (int k = 0; k < EACH; k++)
                gh.at[k] = exp2(step * a.at[k]) * (gh.at[k] + gp * C_t.at[k]);
            total += step;
        }
        __syncthreads();
    }
    long long line = ((long long)at.batch * gridDim.y + blockIdx.y) * d + channel;
    write_states(starts, line, here, gh);
    if (here && lane == 0) totals[line] = total;
}

// Walk a segment back. gh is the cotangent of h_t; at each step:
// - y_t reads h_t:        gh += gp_t C_t,  gC_t = gp_t h_t,  gD += gp_t u_t
// - y_t reads z_t:        gz_t = gy_t p_t silu'(z_t)
// - h_t reads the input:  gB_t = gh s_t u_t,  gu_t = gp_t D + s_t (gh . B_t)
// - h_t reads the decay:  gA += gh s_t a_t h_(t-1)
// - both read the step:   gs_t = gh . (A a_t h_(t-1) + B_t u_t)
// - h_t reads h_(t-1):    gh <- a_t gh
// Of a tile's states, those of PIECE steps are in registers at a time, the last ones first.
// exits: cotangents of the states after each segment (b, segments, d, n) or null. Gradients of B
// and C: (b, groups, parts, l, n), if they depend on time. totals: (b, segments) rows of the gradients
// of A (d, n), of B and C that do not depend on time (d, n), of D (d,) and of the bias (d,).
extern "C" __global__ void __launch_bounds__(THREADS, BACKWARD_BLOCKS) scan_vjp(
    const SCALAR* __restrict__ g, const SCALAR* __restrict__ u, const SCALAR* __restrict__ delta,
    const SCALAR* __restrict__ A, const SCALAR* __restrict__ B, const SCALAR* __restrict__ C,
    const SCALAR* __restrict__ D, const SCALAR* __restrict__ z,
    const SCALAR* __restrict__ delta_bias, const ACCUM* __restrict__ states,
    const ACCUM* __restrict__ exits, SCALAR* __restrict__ gu, SCALAR* __restrict__ gdelta,
    SCALAR* __restrict__ gz, ACCUM* __restrict__ gB, ACCUM* __restrict__ gC,
    ACCUM* __restrict__ totals, SCALAR* __restrict__ ginitial, int d, int l, int groups, int b_groups, int c_groups,
    int segment, int z_pitch, int b_pitch, int c_pitch)
{
    __shared__ ACCUM steps[STEPS][CHANNELS + 1];   // then gradients of delta
    __shared__ ACCUM inputs[STEPS][CHANNELS + 1];  // then of u
    __shared__ ACCUM pulls[STEPS][CHANNELS + 1];   // gp, then p
    __shared__ ACCUM slopes[STEPS][CHANNELS + 1];  // of s by delta
    __shared__ ACCUM gates[STEPS][CHANNELS + 1];   // gy_t silu'(z_t)
    __shared__ Group B_rows[STEPS][LANES];
    __shared__ Group C_rows[STEPS][LANES];
    __shared__ Group starts[THREADS];  // a thread's states before the tile
    __shared__ ACCUM sums[WARPS][FLUSH][LANES * SHARED_GRADIENTS + 1];
    const Sizes sizes = {d, l, groups, b_groups, c_groups, segment, z_pitch, b_pitch, c_pitch};
    const Place at(sizes);
    int own = threadIdx.x / LANES, lane = threadIdx.x % LANES, channel = at.first + own;
    bool here = own < at.channels;
    int all_tiles = (l + STEPS - 1) / STEPS;
    long long line = ((long long)at.batch * gridDim.y + blockIdx.y) * d + channel;

    const Group a = rates(A, channel, here);
    const Group b = read_states(VARYING_B ? (const SCALAR*)0 : B, channel, here);
    const Group c = read_states(VARYING_C ? (const SCALAR*)0 : C, channel, here);
    Group gh = read_states(exits, line, here), dA, dB, dC;
    ACCUM dD = 0, dbias = 0, skip = here && D ? load(D + channel) : (ACCUM)0;
#pragma unroll
    for (int k = 0; k < EACH; k++) dA.at[k] = 0, dB.at[k] = 0, dC.at[k] = 0;

    int tiles = (at.end - at.begin + STEPS - 1) / STEPS;
    Rows B_read(B, b_groups, b_pitch, sizes, at), C_read(C, c_groups, c_pitch, sizes, at);
    for (int start = at.begin + (tiles - 1) * STEPS; start >= at.begin; start -= STEPS) {
        if (VARYING_B) B_read.read(start, at.end);
        if (VARYING_C) C_read.read(start, at.end);
        long long tile = ((long long)at.batch * all_tiles + start / STEPS) * d + channel;
        starts[threadIdx.x] = read_states(states, tile, here);
#pragma unroll 2
        for (int k = 0; k < PER_THREAD; k++) {
            if (!at.has(k)) continue;
            bool inside = at.inside(k, start);
            long long offset = at.offset(k, start);
            int s = at.step_of(k), inner = at.inner_of(k);
            ACCUM step = inside ? load(delta + offset) : (ACCUM)0;
            ACCUM pull = inside ? load(g + offset) : (ACCUM)0;
            ACCUM gate = inside && z ? load(z + at.offset(k, start, sizes.z_pitch)) : (ACCUM)0;
            inputs[s][inner] = inside ? load(u + offset) : (ACCUM)0;
            step += at.of_channel(delta_bias, k);
            slopes[s][inner] = !inside ? (ACCUM)0 : SOFTPLUS ? sigmoid(step) : (ACCUM)1;
            if (SOFTPLUS) step = softplus(step);
            steps[s][inner] = inside ? step : (ACCUM)0;
            ACCUM open = sigmoid(gate);
            gates[s][inner] = pull * open * (1 + gate * (1 - open));
            pulls[s][inner] = z ? pull * gate * open : pull;
        }
        if (VARYING_B) B_read.write(B_rows, start, at.end);
        if (VARYING_C) C_read.write(C_rows, start, at.end);
        __syncthreads();

#pragma unroll 1
        for (int piece = STEPS - PIECE; piece >= 0; piece -= PIECE) {
            Group past = starts[threadIdx.x], after[PIECE];
            for (int s = 0; s < piece; s++) {
                ACCUM step = steps[s][own], drive = step * inputs[s][own];
                const Group B_t = VARYING_B ? B_rows[s][lane] : b;
#pragma unroll
                for (int k = 0; k < EACH; k++)
                    past.at[k] = exp2(step * a.at[k]) * past.at[k] + drive * B_t.at[k];
            }
#pragma unroll
            for (int i = 0; i < PIECE; i++) {
                ACCUM step = steps[piece + i][own], drive = step * inputs[piece + i][own];
                const Group B_t = VARYING_B ? B_rows[piece + i][lane] : b;
#pragma unroll
                for (int k = 0; k < EACH; k++)
                    after[i].at[k] = exp2(step * a.at[k])
                        * (i ? after[i > 0 ? i - 1 : 0].at[k] : past.at[k]) + drive * B_t.at[k];
            }

#pragma unroll
            for (int flush = PIECE - FLUSH; flush >= 0; flush -= FLUSH) {
                ACCUM by_input[FLUSH], by_decay[FLUSH], p[FLUSH];
#pragma unroll
                for (int f = FLUSH - 1; f >= 0; f--) {
                    const int i = flush + f;
                    int s = piece + i;
                    ACCUM step = steps[s][own], gp = pulls[s][own];
                    ACCUM drive = step * inputs[s][own];
                    const Group B_t = VARYING_B ? B_rows[s][lane] : b;
                    const Group C_t = VARYING_C ? C_rows[s][lane] : c;
                    ACCUM shared_gradients[SHARED_GRADIENTS + 1];
                    by_input[f] = 0, by_decay[f] = 0, p[f] = 0;
#pragma unroll
                    for (int k = 0; k < EACH; k++) {
                        ACCUM h = after[i].at[k];
                        ACCUM earlier = i ? after[i > 0 ? i - 1 : 0].at[k] : past.at[k];
                        p[f] += C_t.at[k] * h;
                        gh.at[k] += gp * C_t.at[k];
                        if (VARYING_B) shared_gradients[k] = gh.at[k] * drive;
                        else dB.at[k] += gh.at[k] * drive;
                        if (VARYING_C) shared_gradients[EACH * VARYING_B + k] = gp * h;
                        else dC.at[k] += gp * h;
                        by_input[f] += gh.at[k] * B_t.at[k];
                        gh.at[k] *= exp2(step * a.at[k]);
                        ACCUM kept = gh.at[k] * earlier;
                        by_decay[f] += kept * a.at[k];
                        dA.at[k] += kept * step;
                    }
                    if (!(VARYING_B || VARYING_C)) continue;
                    Share share
                        = scattered_sums<SHARED_GRADIENTS, WARP / 2, LANES>(shared_gradients);
#pragma unroll
                    for (int j = 0; j < SHARED_GRADIENTS; j++)
                        if (j < share.count && share.owner)
                            sums[threadIdx.x / WARP][f][lane * SHARED_GRADIENTS + share.first + j]
                                = shared_gradients[j];
                }
                // Each lane of a channel goes on with some of the steps
                scattered_sums<FLUSH, LANES / 2, 1>(by_decay);
                if (z) scattered_sums<FLUSH, LANES / 2, 1>(p);
                Share share = scattered_sums<FLUSH, LANES / 2, 1>(by_input);
                __syncwarp();  // all have read
#pragma unroll
                for (int i = 0; i < FLUSH; i++) {
                    if (i >= share.count || !share.owner) continue;
                    int s = piece + flush + share.first + i;
                    ACCUM step = steps[s][own], input = inputs[s][own], gp = pulls[s][own];
                    ACCUM gstep = (by_decay[i] * LN_2 + by_input[i] * input) * slopes[s][own];
                    dbias += gstep;
                    dD += gp * input;
                    steps[s][own] = gstep;
                    inputs[s][own] = gp * skip + step * by_input[i];
                    pulls[s][own] = p[i] + skip * input;
                }
                if (!(VARYING_B || VARYING_C)) continue;
                __syncthreads();
                long long row = ((long long)at.batch * groups + at.group) * at.parts + at.part;
                for (int i = threadIdx.x; i < FLUSH * LANES * SHARED_GRADIENTS; i += THREADS) {
                    int f = i / (LANES * SHARED_GRADIENTS), entry = i % (LANES * SHARED_GRADIENTS);
                    int t = start + piece + flush + f, k = entry % SHARED_GRADIENTS;
                    int state = entry / SHARED_GRADIENTS * EACH + k % EACH;
                    if (t >= at.end || state >= STATES) continue;
                    ACCUM sum = 0;
#pragma unroll
                    for (int w = 0; w < WARPS; w++) sum += sums[w][f][entry];
                    ACCUM* to = VARYING_B && k < EACH ? gB : gC;
                    to[(row * l + t) * STATES + state] = sum;
                }
                __syncthreads();
            }
        }
        __syncthreads();

#pragma unroll 2
        for (int k = 0; k < PER_THREAD; k++) {
            if (!at.inside(k, start)) continue;
            int s = at.step_of(k), inner = at.inner_of(k);
            long long offset = at.offset(k, start);
            store(gu + offset, inputs[s][inner]);
            store(gdelta + offset, steps[s][inner]);
            if (z) store(gz + offset, gates[s][inner] * pulls[s][inner]);
        }  // no barrier: these cells are this thread's in the next tile too
    }

    const long long states_of_row = (long long)d * STATES;
    const int kinds = 3 - VARYING_B - VARYING_C;
    ACCUM* row = totals
        + ((long long)at.batch * gridDim.y + blockIdx.y) * (kinds * states_of_row + 2 * d);
    write_states(row, channel, here, dA);
    if (!VARYING_B) write_states(row + states_of_row, channel, here, dB);
    if (!VARYING_C) write_states(row + (kinds - 1) * states_of_row, channel, here, dC);
    if (blockIdx.y == 0)
        write_states(ginitial, (long long)at.batch * d + channel, here, gh);
    scattered_sums<1, LANES / 2, 1>(&dbias);
    scattered_sums<1, LANES / 2, 1>(&dD);
    if (here && lane == 0) {
        row[kinds * states_of_row + channel] = dD;
        row[kinds * states_of_row + d + channel] = dbias;
    }
}
