/* Linear recurrences h_t = a_t h_{t-1} + b_t of complex numbers, real and imaginary part side by
   side in memory; the same layouts as in linear_scan.c, and all sizes and strides count reals.

   A product is (a.re h + b) and then a.im times i h, h with its parts exchanged and one negated.
   Both functions add in this order, so results do not depend on the layout. */
#include "rows.h"

enum { LINES = HELIX_SCAN_LINES, STEPS = 128 / sizeof(real) }; /* reals read at a time */

#if VECTOR_BYTES == 16 && HELIX_DOUBLE
#define REAL_PARTS 0, 0
#define IMAGINARY_PARTS 1, 1
#define EXCHANGED 1, 0
#elif VECTOR_BYTES == 16 || (VECTOR_BYTES == 32 && HELIX_DOUBLE)
#define REAL_PARTS 0, 0, 2, 2
#define IMAGINARY_PARTS 1, 1, 3, 3
#define EXCHANGED 1, 0, 3, 2
#elif VECTOR_BYTES == 32 || HELIX_DOUBLE
#define REAL_PARTS 0, 0, 2, 2, 4, 4, 6, 6
#define IMAGINARY_PARTS 1, 1, 3, 3, 5, 5, 7, 7
#define EXCHANGED 1, 0, 3, 2, 5, 4, 7, 6
#else
#define REAL_PARTS 0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14
#define IMAGINARY_PARTS 1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 13, 13, 15, 15
#define EXCHANGED 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14
#endif

/* a h + b of interleaved numbers. */
INLINE vec advance(vec a, vec h, vec b) {
    vec signs;
    for (int i = 0; i < WIDTH; i++)
        signs[i] = i % 2 ? (real)0 : -(real)0;
    vec imaginary = (vec)((bits)SHUFFLE(a, a, IMAGINARY_PARTS) ^ (bits)signs);
    return imaginary * SHUFFLE(h, h, EXCHANGED) + (SHUFFLE(a, a, REAL_PARTS) * h + b);
}

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
                next = advance(load_first(a + i, count - i), load_first(before + i, count - i), next);
            store_first(h + i, next, count - i);
        }
        before = h;
    }
}

int EXPORT(complex_scan_channels)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_linear_scan *s = call;
    ptrdiff_t parts = (s->channels - 1) / s->channels_in_item + 1;
    for (ptrdiff_t i = first; i < last; i++) {
        ptrdiff_t start = i % parts * s->channels_in_item;
        scan_part(s, i / parts, start, smaller(s->channels - start, s->channels_in_item));
    }
    return 0;
}

/* The sequences of an item; where fewer are left the last one stands for several. */
typedef struct {
    const real *a[LINES], *b[LINES];
    real *h[LINES];
    real re[LINES], im[LINES]; /* of the state */
} sequences;

/* `size` reals from `start` on, copied first for the reason that linear_scan.c gives. */
INLINE void scan_block(const helix_linear_scan *s, sequences *q, ptrdiff_t start, ptrdiff_t size) {
    real a[LINES][STEPS], b[LINES][STEPS];
    for (int k = 0; k < LINES; k++) {
        if (s->a_time)
            memcpy(a[k], q->a[k] + start, size * sizeof(real));
        else
            for (ptrdiff_t i = 0; i < size; i++)
                a[k][i] = q->a[k][i % 2];
        memcpy(b[k], q->b[k] + start, size * sizeof(real));
    }
    real re[LINES], im[LINES];
    memcpy(re, q->re, sizeof re), memcpy(im, q->im, sizeof im);
    ptrdiff_t move = s->reverse ? -2 : 2, i = s->reverse ? size - 2 : 0;
    for (ptrdiff_t done = 0; done < size; done += 2, i += move)
#pragma GCC unroll 4
        for (int k = 0; k < LINES; k++) {
            real x = -a[k][i + 1] * im[k] + (a[k][i] * re[k] + b[k][i]);
            real y = a[k][i + 1] * re[k] + (a[k][i] * im[k] + b[k][i + 1]);
            q->h[k][start + i] = re[k] = x;
            q->h[k][start + i + 1] = im[k] = y;
        }
    memcpy(q->re, re, sizeof re), memcpy(q->im, im, sizeof im);
}

static void scan_lines(const helix_linear_scan *s, ptrdiff_t item) {
    ptrdiff_t done = 0;
    sequences q;
    for (int k = 0; k < LINES; k++) {
        ptrdiff_t line = smaller(item * LINES + k, s->channels - 1);
        q.a[k] = row_at(s->a, 0, 0, line), q.b[k] = row_at(s->b, 0, 0, line);
        q.h[k] = row_at(s->h, 0, 0, line);
        const real *state = s->initial ? (const real *)s->initial + 2 * line : NULL;
        if (!state) {
            ptrdiff_t at = s->reverse ? s->length - 2 : 0;
            state = q.b[k] + at;
            memcpy(q.h[k] + at, state, 2 * sizeof(real));
            done = 2;
        }
        q.re[k] = state[0], q.im[k] = state[1];
    }
    while (done < s->length) {
        ptrdiff_t size = smaller(s->length - done, STEPS);
        ptrdiff_t start = s->reverse ? s->length - done - size : done;
        if (size == STEPS)
            scan_block(s, &q, start, STEPS);
        else
            scan_block(s, &q, start, size);
        done += size;
    }
}

int EXPORT(complex_scan_lines)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    for (ptrdiff_t item = first; item < last; item++)
        scan_lines(call, item);
    return 0;
}
