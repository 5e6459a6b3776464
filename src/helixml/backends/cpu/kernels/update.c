/* Steps of optimizers, in place, in one pass over the memory of all parameters; and what bounds
   them: the sum of the squares of all gradients, and scaling in place.

   AdamW:  m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2
           p = (1 - lr weight_decay) p - lr (c1 m) / (sqrt(c2 v) + eps)
           with c1, c2 = 1 / (1 - beta^step)
   SGD:    g = g + weight_decay p,   u = momentum u + g
           p = p - lr (g + momentum u if nesterov, u otherwise, g without momentum)

   An item may begin in one array and end in a later one. Elements do not depend on each other, so
   where arrays are cut changes no bit of theirs. Squares are exact in double, where they are summed. */
#include "rows.h"

/* `count` elements from `first` on of one array's parameters, gradients and states. */
typedef void step_part(const helix_update *u, const helix_leaf *leaf, ptrdiff_t first,
                       ptrdiff_t count);

static void adamw_part(const helix_update *u, const helix_leaf *leaf, ptrdiff_t first,
                       ptrdiff_t count) {
    real *param = (real *)leaf->param + first;
    real *mean = (real *)leaf->m + first, *square = (real *)leaf->v + first;
    const real *grad = (const real *)leaf->grad + first;
    real keep = (real)(1 - u->lr * u->weight_decay), lr = (real)u->lr, eps = (real)u->eps;
    real beta1 = (real)u->beta1, rest1 = (real)(1 - u->beta1), c1 = (real)u->correction1;
    real beta2 = (real)u->beta2, rest2 = (real)(1 - u->beta2), c2 = (real)u->correction2;
    for (ptrdiff_t i = 0; i < count; i += WIDTH) {
        ptrdiff_t left = count - i;
        vec g = load_first(grad + i, left), p = load_first(param + i, left);
        vec m = beta1 * load_first(mean + i, left) + rest1 * g;
        vec v = beta2 * load_first(square + i, left) + rest2 * (g * g);
        store_first(mean + i, m, left);
        store_first(square + i, v, left);
        store_first(param + i, keep * p - lr * (c1 * m / (root(c2 * v) + eps)), left);
    }
}

static void sgd_part(const helix_update *u, const helix_leaf *leaf, ptrdiff_t first,
                     ptrdiff_t count) {
    real *param = (real *)leaf->param + first;
    real *velocity = leaf->m ? (real *)leaf->m + first : NULL;
    const real *grad = (const real *)leaf->grad + first;
    real lr = (real)u->lr, decay = (real)u->weight_decay, momentum = (real)u->momentum;
    for (ptrdiff_t i = 0; i < count; i += WIDTH) {
        ptrdiff_t left = count - i;
        vec g = load_first(grad + i, left), p = load_first(param + i, left);
        if (u->weight_decay != 0) /* 0 times an infinite parameter would be nan */
            g += decay * p;
        if (velocity) {
            vec next = momentum * load_first(velocity + i, left) + g;
            store_first(velocity + i, next, left);
            g = u->nesterov ? g + momentum * next : next;
        }
        store_first(param + i, p - lr * g, left);
    }
}

static void scale_part(const helix_update *u, const helix_leaf *leaf, ptrdiff_t first,
                       ptrdiff_t count) {
    real *param = (real *)leaf->param + first, factor = (real)u->factor;
    for (ptrdiff_t i = 0; i < count; i += WIDTH)
        store_first(param + i, factor * load_first(param + i, count - i), count - i);
}

/* Adds to the sum of the item that the elements belong to: all of them to one. */
static void squares_part(const helix_update *u, const helix_leaf *leaf, ptrdiff_t first,
                         ptrdiff_t count) {
    enum { LANES = 32 };
    const real *grad = (const real *)leaf->grad + first;
    double sums[LANES] = {0}, total = 0;
    ptrdiff_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++)
            sums[j] += (double)grad[i + j] * grad[i + j];
    for (int j = 0; i < count; i++, j++)
        sums[j] += (double)grad[i] * grad[i];
    for (int j = 0; j < LANES; j++)
        total += sums[j];
    ptrdiff_t start = leaf == u->leaves ? 0 : leaf[-1].end;
    u->squares[(start + first) / HELIX_UPDATE_RUN] += total;
}

/* The first array that ends after `position`. */
static ptrdiff_t leaf_at(const helix_update *u, ptrdiff_t position) {
    ptrdiff_t low = 0, high = u->count - 1;
    while (low < high) {
        ptrdiff_t middle = low + (high - low) / 2;
        if (u->leaves[middle].end > position)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

INLINE int step(const helix_update *u, ptrdiff_t first, ptrdiff_t last, step_part *part) {
    ptrdiff_t position = first * HELIX_UPDATE_RUN;
    ptrdiff_t end = smaller(last * HELIX_UPDATE_RUN, u->leaves[u->count - 1].end);
    for (ptrdiff_t leaf = leaf_at(u, position); position < end; leaf++) {
        ptrdiff_t start = leaf ? u->leaves[leaf - 1].end : 0;
        ptrdiff_t until = smaller(u->leaves[leaf].end, end);
        part(u, &u->leaves[leaf], position - start, until - position);
        position = until;
    }
    return 0;
}

int EXPORT(adamw)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    return step(call, first, last, adamw_part);
}

int EXPORT(sgd)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    return step(call, first, last, sgd_part);
}

int EXPORT(scale)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    return step(call, first, last, scale_part);
}

int EXPORT(squares)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    for (ptrdiff_t item = first; item < last; item++)
        step(call, item, item + 1, squares_part);
    return 0;
}
