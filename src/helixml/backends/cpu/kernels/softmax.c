/* Softmax of rows and its logarithm, shifted by the largest entry of the row.

     e = exp(x - max(x)),   y = e / sum(e),              dx = y (g - sum(g y))
     `logarithm`:           y = x - max(x) - log(sum(e)),   dx = g - exp(y) sum(g)

   An entry that is nan or inf, and a row of nothing but -inf, makes its whole row nan. */
#include "rows.h"

#include <math.h>

enum { SUMS = 4 };

int EXPORT(softmax_forward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_softmax *s = call;
    for (ptrdiff_t row = first; row < last; row++) {
        const real *x = row_at(s->x, 0, 0, row);
        real *y = row_at(s->y, 0, 0, row), top = largest_entry(x, s->size);
        const real *next = row_at(s->x, 0, 0, smaller(row + 1, s->rows - 1));
        real sum = sum_exponentials(x, top, s->size, s->logarithm ? NULL : y, next);
        real share = 1 / sum, log_sum = (real)log((double)sum);
        for (ptrdiff_t i = 0; i < s->size; i += WIDTH) {
            ptrdiff_t count = s->size - i;
            if (s->logarithm)
                store_first(y + i, load_first(x + i, count) - top - log_sum, count);
            else
                store_first(y + i, load_first(y + i, count) * share, count);
        }
    }
    return 0;
}

/* Adds g, or g y, of `vectors` vectors with at most `count` elements. */
INLINE void add_up(const real *g, const real *y, int vectors, ptrdiff_t count, vec sums[SUMS]) {
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++, g += WIDTH, count -= WIDTH) {
        vec x = load_first(g, count);
        sums[j] += y ? x * load_first(y + j * WIDTH, count) : x;
    }
}

/* The sum of g, or of g y. */
static real scalar_product(const real *g, const real *y, ptrdiff_t size) {
    vec sums[SUMS] = {{0}};
    ptrdiff_t i = 0;
    for (; i + SUMS * WIDTH <= size; i += SUMS * WIDTH)
        add_up(g + i, y ? y + i : NULL, SUMS, SUMS * WIDTH, sums);
    for (; i < size; i += WIDTH)
        add_up(g + i, y ? y + i : NULL, 1, size - i, sums);
    return sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

int EXPORT(softmax_backward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_softmax *s = call;
    for (ptrdiff_t row = first; row < last; row++) {
        const real *y = row_at(s->y, 0, 0, row), *g = row_at(s->g, 0, 0, row);
        real *dx = row_at(s->dx, 0, 0, row);
        real sum = scalar_product(g, s->logarithm ? NULL : y, s->size);
        for (ptrdiff_t i = 0; i < s->size; i += WIDTH) {
            ptrdiff_t count = s->size - i;
            vec here = load_first(y + i, count), g_here = load_first(g + i, count);
            if (s->logarithm)
                store_first(dx + i, g_here - exp_negative(here) * sum, count);
            else
                store_first(dx + i, here * (g_here - sum), count);
        }
    }
    return 0;
}
