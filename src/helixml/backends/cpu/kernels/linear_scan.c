/* Linear recurrences h_t = a_t h_{t-1} + b_t of many sequences, where h_0 = b_0 if there is no
   initial state.

   Each sequence is computed step by step, so that results are those of the plain loop. Where
   channels are contiguous, a vector holds channels. Where time is, a few sequences take turns, so
   that one's step need not wait for the last one's. */
#include "rows.h"

enum { LINES = HELIX_SCAN_LINES, STEPS = 64 / sizeof(real) };

static void scan_part(const helix_linear_scan *s, ptrdiff_t batch, ptrdiff_t first,
                      ptrdiff_t count) {
    const real *before = NULL;
    if (s->initial)
        before = (const real *)s->initial + batch * s->channels + first;
    for (ptrdiff_t step = 0; step < s->length; step++) {
        ptrdiff_t t = s->reverse ? s->length - 1 - step : step;
        const real *a = row_at(s->a, batch, 0, t) + first;
        const real *b = row_at(s->b, batch, 0, t) + first;
        real *h = row_at(s->h, batch, 0, t) + first;
        for (ptrdiff_t i = 0; i < count; i += WIDTH) {
            vec next = load_first(b + i, count - i);
            if (before)
                next = load_first(a + i, count - i) * load_first(before + i, count - i) + next;
            store_first(h + i, next, count - i);
        }
        before = h;
    }
}

int EXPORT(linear_scan_channels)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_linear_scan *s = call;
    ptrdiff_t parts = (s->channels - 1) / s->channels_in_item + 1;
    for (ptrdiff_t i = first; i < last; i++) {
        ptrdiff_t start = i % parts * s->channels_in_item;
        scan_part(s, i / parts, start, smaller(s->channels - start, s->channels_in_item));
    }
    return 0;
}

/* The sequences of an item. Where fewer are left the last one stands for several: it is computed
   and written as often, with the same result. */
typedef struct {
    const real *a[LINES], *b[LINES];
    real *h[LINES], state[LINES];
} sequences;

/* `steps` steps from `start` on. Lines of the cache are read as a whole: where sequences are a power
   of two apart, those of a and b may drive each other out. The four steps are written out: as a
   loop, compilers turn it around, and each step waits for the last one. */
INLINE void scan_block(const helix_linear_scan *s, sequences *q, ptrdiff_t start, ptrdiff_t steps) {
    real a[LINES][STEPS], b[LINES][STEPS];
    for (int k = 0; k < LINES; k++) {
        if (s->a_time)
            memcpy(a[k], q->a[k] + start, steps * sizeof(real));
        else
            for (ptrdiff_t i = 0; i < steps; i++)
                a[k][i] = *q->a[k];
        memcpy(b[k], q->b[k] + start, steps * sizeof(real));
    }
    real *h0 = q->h[0] + start, *h1 = q->h[1] + start;
    real *h2 = q->h[2] + start, *h3 = q->h[3] + start;
    real p0 = q->state[0], p1 = q->state[1], p2 = q->state[2], p3 = q->state[3];
    ptrdiff_t move = s->reverse ? -1 : 1, i = s->reverse ? steps - 1 : 0;
    for (ptrdiff_t step = 0; step < steps; step++, i += move) {
        h0[i] = p0 = a[0][i] * p0 + b[0][i];
        h1[i] = p1 = a[1][i] * p1 + b[1][i];
        h2[i] = p2 = a[2][i] * p2 + b[2][i];
        h3[i] = p3 = a[3][i] * p3 + b[3][i];
    }
    q->state[0] = p0, q->state[1] = p1, q->state[2] = p2, q->state[3] = p3;
}

static void scan_lines(const helix_linear_scan *s, ptrdiff_t item) {
    ptrdiff_t last = s->length - 1, done = 0;
    sequences q;
    for (int k = 0; k < LINES; k++) {
        ptrdiff_t line = smaller(item * LINES + k, s->channels - 1);
        q.a[k] = row_at(s->a, 0, 0, line), q.b[k] = row_at(s->b, 0, 0, line);
        q.h[k] = row_at(s->h, 0, 0, line);
        if (s->initial)
            q.state[k] = ((const real *)s->initial)[line];
    }
    if (!s->initial) {
        for (int k = 0; k < LINES; k++)
            q.state[k] = q.h[k][s->reverse ? last : 0] = q.b[k][s->reverse ? last : 0];
        done = 1;
    }
    while (done < s->length) {
        ptrdiff_t steps = smaller(s->length - done, STEPS);
        ptrdiff_t start = s->reverse ? s->length - done - steps : done;
        if (steps == STEPS)
            scan_block(s, &q, start, STEPS);
        else
            scan_block(s, &q, start, steps);
        done += steps;
    }
}

int EXPORT(linear_scan_lines)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    for (ptrdiff_t item = first; item < last; item++)
        scan_lines(call, item);
    return 0;
}
