/* Causal depthwise convolution of (b, l, d) with k taps a channel, bias and silu.

     p_t = sum_j w_j x_{t-k+1+j} + bias,   y_t = p_t or silu(p_t)

   Before x come the k - 1 rows of `past`, or zeros. Work is cut into pieces of time: the
   forward pass only reads across their borders. The gradient of x at s needs the cotangents
   of p at s .. s + k - 1, so the backward pass recomputes those of the k - 1 steps after its
   piece, and keeps the last k of them in a ring of rows. */
#include "rows.h"

#include <stdlib.h>

enum { STEPS = HELIX_CONV_STEPS };

/* What one call needs: pointers to the k rows under the filter, a row of zeros, the ring. */
typedef struct {
    const real **inputs;
    real *zeros, *ring;
} workspace;

static int allocate(workspace *w, const helix_conv *c) {
    size_t pointers = c->taps * sizeof(real *);
    char *memory = malloc(pointers + (1 + c->taps) * c->channels * sizeof(real));
    if (!memory)
        return HELIX_NO_MEMORY;
    w->inputs = (const real **)memory;
    w->zeros = (real *)(memory + pointers);
    w->ring = w->zeros + c->channels;
    memset(w->zeros, 0, c->channels * sizeof(real));
    return 0;
}

static void find_inputs(workspace *w, const helix_conv *c, ptrdiff_t batch, ptrdiff_t t) {
    ptrdiff_t before = c->taps - 1;
    for (ptrdiff_t j = 0; j < c->taps; j++) {
        ptrdiff_t step = t - before + j;
        if (step >= 0)
            w->inputs[j] = row_at(c->x, batch, 0, step);
        else
            w->inputs[j] = c->past.data ? row_at(c->past, batch, 0, step + before) : w->zeros;
    }
}

INLINE vec filtered(const workspace *w, const helix_conv *c, ptrdiff_t channel) {
    ptrdiff_t count = c->channels - channel;
    const real *weight = (const real *)c->weight + channel;
    vec p = c->bias ? load_first((const real *)c->bias + channel, count) : splat(0);
    for (ptrdiff_t j = 0; j < c->taps; j++)
        p += load_first(weight + j * c->channels, count) *
             load_first(w->inputs[j] + channel, count);
    return p;
}

static void forward_item(const helix_conv *c, workspace *w, ptrdiff_t batch, ptrdiff_t start) {
    ptrdiff_t end = smaller(start + STEPS, c->length);
    for (ptrdiff_t t = start; t < end; t++) {
        find_inputs(w, c, batch, t);
        real *y = row_at(c->y, batch, 0, t);
        for (ptrdiff_t channel = 0; channel < c->channels; channel += WIDTH) {
            vec slope, p = filtered(w, c, channel);
            store_first(y + channel, c->silu ? silu(p, &slope) : p, c->channels - channel);
        }
    }
}

int EXPORT(conv_forward)(const helix_conv *c, ptrdiff_t first, ptrdiff_t last) {
    workspace w;
    if (allocate(&w, c))
        return HELIX_NO_MEMORY;
    ptrdiff_t pieces = (c->length + STEPS - 1) / STEPS;
    for (ptrdiff_t i = first; i < last; i++)
        forward_item(c, &w, i / pieces, i % pieces * STEPS);
    free(w.inputs);
    return 0;
}

/* Put the cotangent of p_t into its row of the ring; add to dweight and dbias if `counts`. */
static void pull_step(const helix_conv *c, workspace *w, ptrdiff_t batch, ptrdiff_t t, int counts,
                      real *dweight, real *dbias) {
    const real *g_row = row_at(c->g, batch, 0, t);
    real *ring = w->ring + t % c->taps * c->channels;
    find_inputs(w, c, batch, t);
    for (ptrdiff_t channel = 0; channel < c->channels; channel += WIDTH) {
        ptrdiff_t count = c->channels - channel;
        vec g = load_first(g_row + channel, count);
        if (c->silu) {
            vec slope;
            silu(filtered(w, c, channel), &slope);
            g *= slope;
        }
        store_first(ring + channel, g, count);
        if (!counts)
            continue;
        add_first(dbias + channel, g, count);
        for (ptrdiff_t j = 0; j < c->taps; j++)
            add_first(dweight + j * c->channels + channel,
                      g * load_first(w->inputs[j] + channel, count), count);
    }
}

/* dx_s = sum_j w_j dp_{s+k-1-j}, where t = s + k - 1 is the newest row of the ring. */
static void write_dx(const helix_conv *c, const workspace *w, ptrdiff_t t, real *dx) {
    for (ptrdiff_t channel = 0; channel < c->channels; channel += WIDTH) {
        ptrdiff_t count = c->channels - channel;
        vec sum = splat(0);
        for (ptrdiff_t j = 0; j < c->taps; j++) {
            ptrdiff_t place = (t - j + c->taps) % c->taps * c->channels + channel;
            sum += load_first((const real *)c->weight + j * c->channels + channel, count) *
                   load_first(w->ring + place, count);
        }
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
        ptrdiff_t s = t - before;
        if (t < c->length)
            pull_step(c, w, batch, t, t < end, dweight, dbias);
        else
            memset(w->ring + t % c->taps * c->channels, 0, c->channels * sizeof(real));
        if (s >= start)
            write_dx(c, w, t, row_at(c->dx, batch, 0, s));
        else if (s < 0 && start == 0 && c->dpast.data)
            write_dx(c, w, t, row_at(c->dpast, batch, 0, s + before));
    }
}

int EXPORT(conv_backward)(const helix_conv *c, ptrdiff_t first, ptrdiff_t last) {
    workspace w;
    if (allocate(&w, c))
        return HELIX_NO_MEMORY;
    ptrdiff_t pieces = (c->length + STEPS - 1) / STEPS;
    for (ptrdiff_t i = first; i < last; i++)
        backward_item(c, &w, i, i / pieces, i % pieces * STEPS);
    free(w.inputs);
    return 0;
}
