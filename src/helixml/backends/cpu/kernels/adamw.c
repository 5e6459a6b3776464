/* AdamW in place, in one pass over memory.

     m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2
     p = (1 - lr weight_decay) p - lr (c1 m) / (sqrt(c2 v) + eps)

   with c1, c2 = 1 / (1 - beta^step). The loop is plain C: the compiler vectorises it. */
#include "rows.h"

int EXPORT(adamw)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_adamw *a = call;
    real *restrict p = a->param, *restrict m = a->m, *restrict v = a->v;
    const real *restrict grad = a->grad;
    real keep = (real)(1 - a->lr * a->weight_decay), lr = (real)a->lr, eps = (real)a->eps;
    real beta1 = (real)a->beta1, rest1 = (real)(1 - a->beta1), c1 = (real)a->correction1;
    real beta2 = (real)a->beta2, rest2 = (real)(1 - a->beta2), c2 = (real)a->correction2;
    ptrdiff_t end = smaller(last * HELIX_ADAMW_RUN, a->size);
    for (ptrdiff_t i = first * HELIX_ADAMW_RUN; i < end; i++) {
        real g = grad[i];
        m[i] = beta1 * m[i] + rest1 * g;
        v[i] = beta2 * v[i] + rest2 * (g * g);
#if HELIX_DOUBLE
        real root = __builtin_sqrt(c2 * v[i]);
#else
        real root = __builtin_sqrtf(c2 * v[i]);
#endif
        p[i] = keep * p[i] - lr * (c1 * m[i] / (root + eps));
    }
    return 0;
}
