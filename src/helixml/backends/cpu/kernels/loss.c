/* Cross entropy of rows of logits x with class indices t, label smoothing e over v classes.

     loss = log(sum_c exp(x_c)) - (1 - e) x_t - e mean(x)
     dx_c = g (softmax(x)_c - (1 - e) [c = t] - e / v)

   Everything is shifted by the row's largest logit. A row whose target is ignore_index has
   loss and gradient 0; any other target that is no class makes the call fail. */
#include "rows.h"

#include <math.h>

static int counts(const helix_loss *l, ptrdiff_t row) {
    return !(l->ignores && l->target[row] == l->ignore_index);
}

static int is_class(const helix_loss *l, ptrdiff_t row) {
    return l->target[row] >= 0 && l->target[row] < l->classes;
}

static real row_loss(const helix_loss *l, ptrdiff_t row) {
    const real *x = row_at(l->logits, 0, 0, row);
    const real *next = row_at(l->logits, 0, 0, smaller(row + 1, l->rows - 1));
    real largest = largest_entry(x, l->classes);
    vec sums = splat(0), shifts = splat(0);
    for (ptrdiff_t i = 0; i < l->classes; i += WIDTH) {
        ptrdiff_t count = l->classes - i;
        prefetch(next + i);
        sums += exp_negative(load_padded(x + i, count, -INFINITY) - largest);
        if (l->smoothing != 0)
            shifts += load_padded(x + i, count, largest) - largest;
    }
    real sum = sum_lanes(sums);
    ((real *)l->top)[row] = largest;
    ((real *)l->sum)[row] = sum;
    double loss = log((double)sum) - (1 - l->smoothing) * (x[l->target[row]] - largest);
    if (l->smoothing != 0)
        loss -= l->smoothing * sum_lanes(shifts) / (double)l->classes;
    return (real)loss;
}

int EXPORT(loss_forward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_loss *l = call;
    for (ptrdiff_t row = first; row < last; row++) {
        if (counts(l, row) && !is_class(l, row))
            return HELIX_BAD_TARGET;
        ((real *)l->losses)[row] = counts(l, row) ? row_loss(l, row) : 0;
    }
    return 0;
}

static void pull_row(const helix_loss *l, ptrdiff_t row) {
    const real *x = row_at(l->logits, 0, 0, row);
    real *dx = row_at(l->dlogits, 0, 0, row);
    if (!counts(l, row)) {
        memset(dx, 0, l->classes * sizeof(real));
        return;
    }
    real g = ((const real *)l->g)[row], top = ((const real *)l->top)[row];
    real share = (real)1 / ((const real *)l->sum)[row];
    real even = (real)(l->smoothing / (double)l->classes);
    for (ptrdiff_t i = 0; i < l->classes; i += WIDTH) {
        ptrdiff_t count = l->classes - i;
        vec p = exp_negative(load_first(x + i, count) - top) * share;
        store_first(dx + i, (p - even) * g, count);
    }
    dx[l->target[row]] -= (real)(1 - l->smoothing) * g;
}

int EXPORT(loss_backward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_loss *l = call;
    for (ptrdiff_t row = first; row < last; row++) {
        if (counts(l, row) && !is_class(l, row))
            return HELIX_BAD_TARGET;
        pull_row(l, row);
    }
    return 0;
}
