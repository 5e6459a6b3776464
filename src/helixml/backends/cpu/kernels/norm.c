/* Root-mean-square normalisation of rows, with an optional residual added first.

     s = x + residual,   r = 1 / sqrt(mean(s^2) + eps),   y = s r weight

   With q = g weight: ds = r q - s r^3 mean(q s) + (the cotangent of s itself), which is the
   gradient of x and of the residual; dweight = sum over rows of g s r. */
#include "rows.h"

INLINE vec total_at(const helix_norm *n, ptrdiff_t row, ptrdiff_t place) {
    ptrdiff_t count = n->size - place;
    vec s = load_first(row_at(n->x, 0, 0, row) + place, count);
    if (n->residual.data)
        s += load_first(row_at(n->residual, 0, 0, row) + place, count);
    return s;
}

static void forward_row(const helix_norm *n, ptrdiff_t row) {
    const real *weight = n->weight;
    vec sums = splat(0);
    for (ptrdiff_t i = 0; i < n->size; i += WIDTH) {
        vec s = total_at(n, row, i);
        sums += s * s;
        if (n->total.data)
            store_first(row_at(n->total, 0, 0, row) + i, s, n->size - i);
    }
    real scale = (real)(1 / __builtin_sqrt(sum_lanes(sums) / (double)n->size + n->eps));
    ((real *)n->scale)[row] = scale;
    real *y = row_at(n->y, 0, 0, row);
    for (ptrdiff_t i = 0; i < n->size; i += WIDTH) {
        ptrdiff_t count = n->size - i;
        store_first(y + i, total_at(n, row, i) * scale * load_first(weight + i, count), count);
    }
}

int EXPORT(norm_forward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_norm *n = call;
    ptrdiff_t end = smaller(last * n->rows_in_item, n->rows);
    for (ptrdiff_t row = first * n->rows_in_item; row < end; row++)
        forward_row(n, row);
    return 0;
}

static void backward_row(const helix_norm *n, ptrdiff_t row, real *dweight) {
    const real *weight = n->weight, *g = row_at(n->g, 0, 0, row);
    real scale = ((const real *)n->scale)[row];
    vec dots = splat(0);
    for (ptrdiff_t i = 0; i < n->size; i += WIDTH) {
        ptrdiff_t count = n->size - i;
        vec s = total_at(n, row, i), g_here = load_first(g + i, count);
        dots += s * (g_here * load_first(weight + i, count));
        add_first(dweight + i, g_here * (s * scale), count);
    }
    real shared = (real)((double)scale * scale * scale * sum_lanes(dots) / (double)n->size);
    real *dx = row_at(n->dx, 0, 0, row);
    for (ptrdiff_t i = 0; i < n->size; i += WIDTH) {
        ptrdiff_t count = n->size - i;
        vec q = load_first(g + i, count) * load_first(weight + i, count);
        vec ds = q * scale - total_at(n, row, i) * shared;
        if (n->g_total.data)
            ds += load_first(row_at(n->g_total, 0, 0, row) + i, count);
        store_first(dx + i, ds, count);
    }
}

int EXPORT(norm_backward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_norm *n = call;
    for (ptrdiff_t item = first; item < last; item++) {
        real *dweight = (real *)n->dweight + item * n->size;
        ptrdiff_t end = smaller((item + 1) * n->rows_in_item, n->rows);
        for (ptrdiff_t row = item * n->rows_in_item; row < end; row++)
            backward_row(n, row, dweight);
    }
    return 0;
}
