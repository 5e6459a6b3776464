/* Cross entropy of rows of logits x with class indices t, label smoothing e over v classes.

     loss = log(sum_c exp(x_c)) - (1 - e) x_t - e mean(x)
     dx_c = g (softmax(x)_c - (1 - e) [c = t] - e / v)

   Everything is shifted by the row's largest logit. A row whose target is ignore_index has
   loss and gradient 0; any other target that is no class makes the call fail. */
#include "rows.h"

static int counts(const helix_loss *l, ptrdiff_t row) {
    return !(l->ignores && l->target[row] == l->ignore_index);
}

static int is_class(const helix_loss *l, ptrdiff_t row) {
    return l->target[row] >= 0 && l->target[row] < l->classes;
}

/* The sum of x - top. */
static real sum_shifted(const real *x, real top, ptrdiff_t size) {
    vec sums = splat(0);
    for (ptrdiff_t i = 0; i < size; i += WIDTH)
        sums += load_padded(x + i, size - i, top) - top;
    return sum_lanes(sums);
}

/* The gradient of a row's logits, in whose place dx has exp(x - top). */
static void finish_row(const helix_loss *l, ptrdiff_t row) {
    real *dx = row_at(l->dlogits, 0, 0, row), g = ((const real *)l->g)[row];
    real share = g / ((const real *)l->sum)[row];
    real even = g * (real)(l->smoothing / (double)l->classes);
    for (ptrdiff_t i = 0; i < l->classes; i += WIDTH) {
        ptrdiff_t count = l->classes - i;
        store_first(dx + i, load_first(dx + i, count) * share - even, count);
    }
    dx[l->target[row]] -= (real)(1 - l->smoothing) * g;
}

/* Everything but log(sum); dlogits too, if they are wanted. */
static real row_loss(const helix_loss *l, ptrdiff_t row) {
    const real *x = row_at(l->logits, 0, 0, row);
    const real *next = row_at(l->logits, 0, 0, smaller(row + 1, l->rows - 1));
    real largest = largest_entry(x, l->classes);
    ((real *)l->top)[row] = largest;
    real *dx = l->dlogits.data ? row_at(l->dlogits, 0, 0, row) : NULL;
    ((real *)l->sum)[row] = sum_exponentials(x, largest, l->classes, dx, next);
    if (dx)
        finish_row(l, row);
    double loss = (1 - l->smoothing) * (largest - x[l->target[row]]);
    if (l->smoothing != 0)
        loss -= l->smoothing * sum_shifted(x, largest, l->classes) / (double)l->classes;
    return (real)loss;
}

int EXPORT(loss_forward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_loss *l = call;
    real *losses = l->losses, *sums = l->sum;
    for (ptrdiff_t row = first; row < last; row++) {
        if (counts(l, row) && !is_class(l, row))
            return HELIX_BAD_TARGET;
        losses[row] = 0;
        sums[row] = 1;
        if (counts(l, row))
            losses[row] = row_loss(l, row);
        else if (l->dlogits.data)
            memset(row_at(l->dlogits, 0, 0, row), 0, l->classes * sizeof(real));
    }
    for (ptrdiff_t row = first; row < last; row += WIDTH) {
        vec logs = log_vec(load_padded(sums + row, last - row, 1));
        vec rest = load_first(losses + row, last - row);
        /* Which of two nan a sum has depends on the code, and so on how rows are shared. */
        store_first(losses + row, choose(logs == logs, logs + rest, logs), last - row);
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
    real share = g / ((const real *)l->sum)[row];
    real even = g * (real)(l->smoothing / (double)l->classes);
    ptrdiff_t i = 0;
    for (; i + EXP_GROUP * WIDTH <= l->classes; i += EXP_GROUP * WIDTH) {
        vec e[EXP_GROUP];
        for (int j = 0; j < EXP_GROUP; j++)
            e[j] = load(x + i + j * WIDTH) - top;
        exp_group(e);
        for (int j = 0; j < EXP_GROUP; j++)
            store(dx + i + j * WIDTH, e[j] * share - even);
    }
    for (; i < l->classes; i += WIDTH) {
        ptrdiff_t count = l->classes - i;
        store_first(dx + i, exp_negative(load_first(x + i, count) - top) * share - even, count);
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
