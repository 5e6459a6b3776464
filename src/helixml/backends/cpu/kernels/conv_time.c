/* The convolution of conv.c where time is contiguous: x is (b, d, l), the weight (d, k).

   Each item is a row of one channel, and a vector holds steps of time. The first steps, which
   need what came before the row, are filtered from a copy of the row's start that has it in
   front. The backward pass takes blocks of a row: of each it first computes the cotangents of p,
   which follow those of the last k - 1 steps before, and from these the gradient of x as far as
   they reach. */
#include "rows.h"

enum { BLOCK = 1024, FEW_TAPS = 4 };

/* A row, and the memory that every row uses again. */
typedef struct {
    const real *weight; /* (k,) */
    vec bias;
    ptrdiff_t taps;
    int silu;
    ptrdiff_t copied, block; /* steps in `start`; at most in a block */
    real *start;             /* k - 1 steps before the row, and its first steps */
    real *cotangents;        /* k - 1 before a block, those of the block, k - 1 zeros, a vector */
    vec *sums, *part;        /* gradients of bias and weight: so far; more taps, of some steps */
} row;

static ptrdiff_t in_whole_vectors(ptrdiff_t count) { return (count + WIDTH - 1) / WIDTH * WIDTH; }

static int allocate(row *r, const helix_conv *c, int backward) {
    ptrdiff_t before = c->taps - 1, copied = in_whole_vectors(before);
    r->taps = c->taps;
    r->silu = c->silu;
    r->copied = smaller(copied, c->length);
    r->block = copied > BLOCK ? copied : BLOCK;
    size_t sums = backward ? 2 * (c->taps + 1) * sizeof(vec) : 0;
    size_t cotangents = backward ? 2 * before + r->block + WIDTH : 0;
    char *memory = helix_workspace(sums + (before + copied + cotangents) * sizeof(real));
    if (!memory)
        return HELIX_NO_MEMORY;
    r->sums = (vec *)memory;
    r->part = r->sums + c->taps + 1;
    r->start = (real *)(memory + sums);
    r->cotangents = r->start + before + copied;
    return 0;
}

static void move_to(row *r, const helix_conv *c, ptrdiff_t batch, ptrdiff_t channel) {
    size_t before = (c->taps - 1) * sizeof(real);
    r->weight = (const real *)c->weight + channel * c->taps;
    r->bias = splat(c->bias ? ((const real *)c->bias)[channel] : 0);
    if (c->past.data)
        memcpy(r->start, row_at(c->past, batch, 0, channel), before);
    else
        memset(r->start, 0, before);
    memcpy(r->start + c->taps - 1, row_at(c->x, batch, 0, channel), r->copied * sizeof(real));
}

/* The function is inlined with each small number of taps as a constant; it then keeps weights and
   sums in registers. */
#define WITH_TAPS(r, function, ...)                                                         \
    do {                                                                                    \
        switch ((r)->taps) {                                                                \
        case 1: function(r, 1, __VA_ARGS__); break;                                         \
        case 2: function(r, 2, __VA_ARGS__); break;                                         \
        case 3: function(r, 3, __VA_ARGS__); break;                                         \
        case 4: function(r, 4, __VA_ARGS__); break;                                         \
        default: function(r, (r)->taps, __VA_ARGS__);                                       \
        }                                                                                   \
    } while (0)

typedef struct {
    vec of[FEW_TAPS];
} weights;

INLINE weights load_weights(const row *r, ptrdiff_t taps) {
    weights w = {{{0}}};
    if (taps <= FEW_TAPS)
#pragma GCC unroll 4
        for (ptrdiff_t j = 0; j < taps; j++)
            w.of[j] = splat(r->weight[j]);
    return w;
}

INLINE vec weight_at(const row *r, const weights *w, ptrdiff_t taps, ptrdiff_t j) {
    return taps <= FEW_TAPS ? w->of[j] : splat(r->weight[j]);
}

/* p of some steps; `inputs` starts k - 1 steps before the first of them. */
INLINE vec filtered(const row *r, const weights *w, ptrdiff_t taps, const real *inputs,
                    ptrdiff_t count) {
    vec p = r->bias;
#pragma GCC unroll 4
    for (ptrdiff_t j = 0; j < taps; j++)
        p += weight_at(r, w, taps, j) * load_first(inputs + j, count);
    return p;
}

INLINE void filter_some(const row *r, ptrdiff_t taps, const real *inputs, real *y,
                        ptrdiff_t count) {
    weights w = load_weights(r, taps);
    ptrdiff_t t = 0;
    vec slope;
    for (; t + WIDTH <= count; t += WIDTH) {
        vec p = filtered(r, &w, taps, inputs + t, WIDTH);
        store(y + t, r->silu ? silu(p, &slope) : p);
    }
    if (t < count) {
        vec p = filtered(r, &w, taps, inputs + t, count - t);
        store_first(y + t, r->silu ? silu(p, &slope) : p, count - t);
    }
}

static void filter(const row *r, const real *inputs, real *y, ptrdiff_t count) {
    WITH_TAPS(r, filter_some, inputs, y, count);
}

int EXPORT(conv_time_forward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_conv *c = call;
    row r;
    if (allocate(&r, c, 0))
        return HELIX_NO_MEMORY;
    for (ptrdiff_t i = first; i < last; i++) {
        ptrdiff_t batch = i / c->channels, channel = i % c->channels;
        real *y = row_at(c->y, batch, 0, channel);
        move_to(&r, c, batch, channel);
        filter(&r, r.start, y, r.copied);
        if (r.copied < c->length)
            filter(&r, row_at(c->x, batch, 0, channel) + r.copied - (c->taps - 1), y + r.copied,
                   c->length - r.copied);
    }
    return 0;
}

/* Zeros in place of all but the first lanes, whatever they hold. */
INLINE vec first_lanes(vec x, ptrdiff_t count) {
    ivec lane;
    for (int i = 0; i < WIDTH; i++)
        lane[i] = i;
    return count >= WIDTH ? x : choose(lane < (integer)count, x, splat(0));
}

/* Write a whole vector of cotangents of p, zeros after those of the steps there are, and add the
   gradients of bias and weight to `sums`. */
INLINE void pull_vector(const row *r, const weights *w, ptrdiff_t taps, const real *inputs,
                        const real *g, real *cotangents, vec *sums, ptrdiff_t count) {
    vec slope = splat(1);
    if (r->silu)
        silu(filtered(r, w, taps, inputs, count), &slope);
    vec dp = first_lanes(load_first(g, count) * slope, count);
    store(cotangents, dp);
    sums[0] += dp;
#pragma GCC unroll 4
    for (ptrdiff_t j = 0; j < taps; j++)
        sums[j + 1] += dp * load_first(inputs + j, count);
}

INLINE void pull_some(const row *r, ptrdiff_t taps, const real *inputs, const real *g,
                      real *cotangents, ptrdiff_t count) {
    weights w = load_weights(r, taps);
    vec few[FEW_TAPS + 1] = {{0}}, *sums = taps <= FEW_TAPS ? few : r->part;
    ptrdiff_t t = 0;
    if (taps > FEW_TAPS)
        memset(sums, 0, (taps + 1) * sizeof *sums);
    for (; t + WIDTH <= count; t += WIDTH)
        pull_vector(r, &w, taps, inputs + t, g + t, cotangents + t, sums, WIDTH);
    if (t < count)
        pull_vector(r, &w, taps, inputs + t, g + t, cotangents + t, sums, count - t);
#pragma GCC unroll 5
    for (ptrdiff_t j = 0; j <= taps; j++)
        r->sums[j] += sums[j];
}

static void pull(const row *r, const real *inputs, const real *g, real *cotangents,
                 ptrdiff_t count) {
    WITH_TAPS(r, pull_some, inputs, g, cotangents, count);
}

/* dx_t = sum_j w_j dp_{t+k-1-j}; `cotangents`, from dp_t on, can be read in whole vectors. */
INLINE void spread_some(const row *r, ptrdiff_t taps, const real *cotangents, real *dx,
                        ptrdiff_t count) {
    weights w = load_weights(r, taps);
    for (ptrdiff_t t = 0; t < count; t += WIDTH) {
        vec sum = splat(0);
#pragma GCC unroll 4
        for (ptrdiff_t j = 0; j < taps; j++)
            sum += weight_at(r, &w, taps, j) * load(cotangents + t + taps - 1 - j);
        store_first(dx + t, sum, count - t);
    }
}

static void spread(const row *r, const real *cotangents, real *dx, ptrdiff_t count) {
    WITH_TAPS(r, spread_some, cotangents, dx, count);
}

static void backward_row(row *r, const helix_conv *c, ptrdiff_t batch, ptrdiff_t channel) {
    ptrdiff_t before = c->taps - 1, length = c->length;
    const real *x = row_at(c->x, batch, 0, channel), *g = row_at(c->g, batch, 0, channel);
    real *dx = row_at(c->dx, batch, 0, channel), *of_block = r->cotangents + before;
    memset(r->cotangents, 0, before * sizeof(real));
    for (ptrdiff_t start = 0; start < length; start += r->block) {
        ptrdiff_t count = smaller(length - start, r->block), done = 0, known = count;
        if (start == 0) {
            done = r->copied;
            pull(r, r->start, g, of_block, done);
        }
        if (done < count)
            pull(r, x + start + done - before, g + start + done, of_block + done, count - done);
        if (start + count == length) { /* no step after these had a part in y */
            memset(of_block + count, 0, before * sizeof(real));
            known += before;
        }
        if (start > 0) {
            spread(r, r->cotangents, dx + start - before, known);
        } else {
            if (c->dpast.data)
                spread(r, r->cotangents, row_at(c->dpast, batch, 0, channel), before);
            spread(r, of_block, dx, known - before);
        }
        memmove(r->cotangents, r->cotangents + count, before * sizeof(real));
    }
}

int EXPORT(conv_time_backward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_conv *c = call;
    row r;
    if (allocate(&r, c, 1))
        return HELIX_NO_MEMORY;
    for (ptrdiff_t i = first; i < last; i++) {
        move_to(&r, c, i / c->channels, i % c->channels);
        memset(r.sums, 0, (c->taps + 1) * sizeof *r.sums);
        backward_row(&r, c, i / c->channels, i % c->channels);
        ((real *)c->dbias)[i] = sum_lanes(r.sums[0]);
        for (ptrdiff_t j = 0; j < c->taps; j++)
            ((real *)c->dweight)[i * c->taps + j] = sum_lanes(r.sums[j + 1]);
    }
    return 0;
}
