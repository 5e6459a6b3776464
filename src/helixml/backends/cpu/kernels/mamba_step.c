/* One step of Mamba's mixer for a few sequences (b is the batch, d the channels inside):

     u, z     = in_proj x
     u        = silu(conv of u and the taps - 1 inputs before it)
     dt, B, C = x_proj u
     delta    = softplus(dt_proj dt + bias)
     h        = exp(-delta exp(A_log)) h + delta B u
     y        = out_proj ((C h + D u) silu(z))

   Each part needs all of the one before, so there are four, in each of which threads share rows of
   a matrix, and with them all that concerns the same channels only. Nearly all the time goes to
   reading matrices. A vector holds neighbouring states of a channel, as they lie. */
#include "dots.h"

/* The channels of an item. */
typedef struct {
    ptrdiff_t begin, end;
} range;

static range range_of(ptrdiff_t item, ptrdiff_t rows) {
    ptrdiff_t begin = item * HELIX_STORED_ROWS;
    return (range){begin, smaller(begin + HELIX_STORED_ROWS, rows)};
}

static void silu_all(real *x, ptrdiff_t count) {
    for (ptrdiff_t i = 0; i < count; i += WIDTH) {
        vec slope;
        store_first(x + i, silu(load_first(x + i, count - i), &slope), count - i);
    }
}

/* Convolve channel c of sequence i, of which x is the newest input, and shift its past. */
static real convolve(const helix_mamba_step *s, ptrdiff_t i, ptrdiff_t c, real x) {
    ptrdiff_t before = s->taps - 1, place = (i * s->channels + c) * before;
    const real *weight = (const real *)s->conv_weight + c * s->taps;
    const real *past = (const real *)s->past + place;
    real *next = (real *)s->next_past + place;
    real sum = 0;
    for (ptrdiff_t j = 0; j < before; j++) {
        sum += past[j] * weight[j];
        next[j] = j + 1 < before ? past[j + 1] : x;
    }
    sum += x * weight[before];
    return s->conv_bias ? sum + ((const real *)s->conv_bias)[c] : sum;
}

int EXPORT(mamba_step_enter)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_mamba_step *s = call;
    ptrdiff_t d = s->channels, width = s->in_proj.columns;
    for (ptrdiff_t item = first; item < last; item++) {
        range r = range_of(item, d);
        multiply_matrix(&s->in_proj, r.begin, r.end, s->x, width, s->batch, s->inner, 2 * d);
        multiply_matrix(&s->in_proj, d + r.begin, d + r.end, s->x, width, s->batch, s->inner,
                        2 * d);
        for (ptrdiff_t i = 0; i < s->batch; i++) {
            real *u = (real *)s->inner + i * 2 * d;
            for (ptrdiff_t c = r.begin; c < r.end; c++)
                u[c] = convolve(s, i, c, u[c]);
            silu_all(u + r.begin, r.end - r.begin);
            silu_all(u + d + r.begin, r.end - r.begin);
        }
    }
    return 0;
}

int EXPORT(mamba_step_select)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_mamba_step *s = call;
    ptrdiff_t rows = s->x_proj.rows;
    multiply_matrix(&s->x_proj, first * HELIX_STORED_ROWS, smaller(last * HELIX_STORED_ROWS, rows),
                    s->inner, 2 * s->channels, s->batch, s->selected, rows);
    return 0;
}

/* Move the states of channel c of sequence i by delta; return C h. */
static real move_states(const helix_mamba_step *s, ptrdiff_t i, ptrdiff_t c, real delta, real u) {
    ptrdiff_t n = s->states, place = (i * s->channels + c) * n;
    const real *A_log = (const real *)s->A_log + c * n;
    const real *B = (const real *)s->selected + i * s->x_proj.rows + s->rank, *C = B + n;
    vec sum = splat(0);
    for (ptrdiff_t j = 0; j < n; j += WIDTH) {
        vec rate = exp_vec(load_first(A_log + j, n - j));
        vec h = load_first((const real *)s->state + place + j, n - j);
        h = exp_negative(rate * -delta) * h + load_first(B + j, n - j) * (delta * u);
        store_first((real *)s->next_state + place + j, h, n - j);
        vec y = h * load_first(C + j, n - j);
        sum += y;
    }
    return sum_lanes(sum);
}

int EXPORT(mamba_step_scan)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_mamba_step *s = call;
    ptrdiff_t d = s->channels;
    for (ptrdiff_t item = first; item < last; item++) {
        range r = range_of(item, d);
        multiply_matrix(&s->dt_proj, r.begin, r.end, s->selected, s->x_proj.rows, s->batch,
                        s->mixed, d);
        for (ptrdiff_t i = 0; i < s->batch; i++) {
            const real *u = (const real *)s->inner + i * 2 * d, *gate = u + d;
            real *mixed = (real *)s->mixed + i * d;
            for (ptrdiff_t c = r.begin; c < r.end; c += WIDTH) {
                vec slope;
                vec delta = softplus(load_first(mixed + c, r.end - c), &slope);
                store_first(mixed + c, delta, r.end - c);
            }
            for (ptrdiff_t c = r.begin; c < r.end; c++) {
                real y = move_states(s, i, c, mixed[c], u[c]) + ((const real *)s->D)[c] * u[c];
                mixed[c] = y * gate[c];
            }
        }
    }
    return 0;
}

int EXPORT(mamba_step_leave)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_mamba_step *s = call;
    ptrdiff_t rows = s->out_proj.rows;
    multiply_matrix(&s->out_proj, first * HELIX_STORED_ROWS,
                    smaller(last * HELIX_STORED_ROWS, rows), s->mixed, s->channels, s->batch, s->y,
                    rows);
    return 0;
}
