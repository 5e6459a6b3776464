/* Causal depthwise convolution of (b, l, d) with k taps a channel, bias and silu.

     p_t = sum_j w_j x_{t-k+1+j} + bias,   y_t = p_t or silu(p_t)

   Before x come the k - 1 rows of `past`, or zeros. Work is cut into pieces of time: the
   forward pass only reads across their borders. The gradient of x at s needs the cotangents
   of p at s .. s + k - 1, so the backward pass recomputes those of the k - 1 steps after its
   piece, and keeps the last k of them in a ring of rows. */
#include "rows.h"

enum { STEPS = HELIX_CONV_STEPS };

/* What one call needs: the k rows under the filter, a row of zeros, the ring and its order. */
typedef struct {
    const real **inputs; /* x_{t-k+1} .. x_t */
    real **recent;       /* cotangents of p_t .. p_{t-k+1} */
    real *zeros, *ring;
} workspace;

static int allocate(workspace *w, const helix_conv *c) {
    size_t pointers = c->taps * sizeof(real *);
    char *memory = helix_workspace(2 * pointers + (1 + c->taps) * c->channels * sizeof(real));
    if (!memory)
        return HELIX_NO_MEMORY;
    w->inputs = (const real **)memory;
    w->recent = (real **)(memory + pointers);
    w->zeros = (real *)(memory + 2 * pointers);
    w->ring = w->zeros + c->channels;
    memset(w->zeros, 0, c->channels * sizeof(real));
    return 0;
}

static void move_to(workspace *w, const helix_conv *c, ptrdiff_t batch, ptrdiff_t t) {
    ptrdiff_t before = c->taps - 1;
    for (ptrdiff_t j = 0; j < c->taps; j++) {
        ptrdiff_t step = t - before + j;
        w->recent[j] = w->ring + (t - j + c->taps) % c->taps * c->channels;
        if (step >= 0)
            w->inputs[j] = row_at(c->x, batch, 0, step);
        else
            w->inputs[j] = c->past.data ? row_at(c->past, batch, 0, step + before) : w->zeros;
    }
}

/* The row functions are inlined with taps = 4, the usual number, as a constant. */
#define UNROLLED(call)                                                                      \
    do {                                                                                    \
        ptrdiff_t taps = c->taps;                                                           \
        if (taps == 4) {                                                                    \
            taps = 4;                                                                       \
            call;                                                                           \
        } else {                                                                            \
            call;                                                                           \
        }                                                                                   \
    } while (0)

INLINE vec filtered(const workspace *w, const helix_conv *c, ptrdiff_t taps, ptrdiff_t channel) {
    ptrdiff_t count = c->channels - channel;
    const real *weight = (const real *)c->weight + channel;
    vec p = c->bias ? load_first((const real *)c->bias + channel, count) : splat(0);
    for (ptrdiff_t j = 0; j < taps; j++)
        p += load_first(weight + j * c->channels, count) *
             load_first(w->inputs[j] + channel, count);
    return p;
}

INLINE void forward_row(const helix_conv *c, const workspace *w, ptrdiff_t taps, real *y) {
    for (ptrdiff_t channel = 0; channel < c->channels; channel += WIDTH) {
        vec slope, p = filtered(w, c, taps, channel);
        store_first(y + channel, c->silu ? silu(p, &slope) : p, c->channels - channel);
    }
}

int EXPORT(conv_forward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_conv *c = call;
    workspace w;
    if (allocate(&w, c))
        return HELIX_NO_MEMORY;
    ptrdiff_t pieces = (c->length + STEPS - 1) / STEPS;
    for (ptrdiff_t i = first; i < last; i++) {
        ptrdiff_t batch = i / pieces, start = i % pieces * STEPS;
        for (ptrdiff_t t = start; t < smaller(start + STEPS, c->length); t++) {
            move_to(&w, c, batch, t);
            UNROLLED(forward_row(c, &w, taps, row_at(c->y, batch, 0, t)));
        }
    }
    return 0;
}

/* Put the cotangent of p_t, given that of y_t, into the ring. */
INLINE void pull_row(const helix_conv *c, const workspace *w, ptrdiff_t taps, const real *g) {
    for (ptrdiff_t channel = 0; channel < c->channels; channel += WIDTH) {
        ptrdiff_t count = c->channels - channel;
        vec slope = splat(1);
        if (c->silu)
            silu(filtered(w, c, taps, channel), &slope);
        store_first(w->recent[0] + channel, load_first(g + channel, count) * slope, count);
    }
}

/* dweight_j += dp_t x_{t-k+1+j} and dbias += dp_t. */
INLINE void add_row(const helix_conv *c, const workspace *w, ptrdiff_t taps, real *dweight,
                    real *dbias) {
    for (ptrdiff_t channel = 0; channel < c->channels; channel += WIDTH) {
        ptrdiff_t count = c->channels - channel;
        vec g = load_first(w->recent[0] + channel, count);
        add_first(dbias + channel, g, count);
        for (ptrdiff_t j = 0; j < taps; j++)
            add_first(dweight + j * c->channels + channel,
                      g * load_first(w->inputs[j] + channel, count), count);
    }
}

/* dx_{t-k+1} = sum_j w_j dp_{t-j}. */
INLINE void write_dx(const helix_conv *c, const workspace *w, ptrdiff_t taps, real *dx) {
    for (ptrdiff_t channel = 0; channel < c->channels; channel += WIDTH) {
        ptrdiff_t count = c->channels - channel;
        const real *weight = (const real *)c->weight + channel;
        vec sum = splat(0);
        for (ptrdiff_t j = 0; j < taps; j++)
            sum += load_first(weight + j * c->channels, count) *
                   load_first(w->recent[j] + channel, count);
        store_first(dx + channel, sum, count);
    }
}

static void backward_item(const helix_conv *c, workspace *w, ptrdiff_t item, ptrdiff_t batch,
                          ptrdiff_t start) {
    ptrdiff_t before = c->taps - 1, end = smaller(start + STEPS, c->length);
    real *dweight = (real *)c->dweight + item * c->taps * c->channels;
    real *dbias = (real *)c->dbias + item * c->channels;
    memset(w->ring, 0, c->taps * c->channels * sizeof(real));
    for (ptrdiff_t t = start; t < end + before; t++) {
        move_to(w, c, batch, t);
        if (t < c->length)
            UNROLLED(pull_row(c, w, taps, row_at(c->g, batch, 0, t)));
        else
            memset(w->recent[0], 0, c->channels * sizeof(real));
        if (t < end)
            UNROLLED(add_row(c, w, taps, dweight, dbias));
        ptrdiff_t s = t - before;
        if (s >= start)
            UNROLLED(write_dx(c, w, taps, row_at(c->dx, batch, 0, s)));
        else if (s < 0 && start == 0 && c->dpast.data)
            UNROLLED(write_dx(c, w, taps, row_at(c->dpast, batch, 0, s + before)));
    }
}

int EXPORT(conv_backward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_conv *c = call;
    workspace w;
    if (allocate(&w, c))
        return HELIX_NO_MEMORY;
    ptrdiff_t pieces = (c->length + STEPS - 1) / STEPS;
    for (ptrdiff_t i = first; i < last; i++)
        backward_item(c, &w, i, i / pieces, i % pieces * STEPS);
    return 0;
}
