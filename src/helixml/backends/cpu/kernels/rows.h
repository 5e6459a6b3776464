/* Rows of channels, as kernels.h describes them, for the kernels of one dtype. */
#ifndef HELIX_ROWS_H
#define HELIX_ROWS_H

#include "kernels.h"
#include "simd.h"

INLINE ptrdiff_t smaller(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

INLINE ptrdiff_t round_up(ptrdiff_t size, ptrdiff_t unit) {
    return (size + unit - 1) / unit * unit;
}

INLINE real *row_at(helix_rows rows, ptrdiff_t batch, ptrdiff_t group, ptrdiff_t step) {
    return (real *)rows.data + batch * rows.batch_stride + group * rows.group_stride +
           step * rows.step_stride;
}

/* Has the cache fetch what will be read soon: while a row is worked on in the cache, the memory
   would have nothing to do. Any address will do. */
INLINE void prefetch(const real *at) { __builtin_prefetch(at); }

/* The same of what will be read later: into the second-level cache. */
INLINE void prefetch_far(const void *at) { __builtin_prefetch(at, 0, 2); }

INLINE void add_first(real *to, vec x, ptrdiff_t count) {
    store_first(to, load_first(to, count) + x, count);
}

/* The largest entry; one that is nan does not count. Comparisons need not wait for each other. */
INLINE real largest_entry(const real *x, ptrdiff_t size) {
    enum { TOPS = 4 };
    vec tops[TOPS];
    for (int j = 0; j < TOPS; j++)
        tops[j] = splat(-(real)__builtin_inf());
    ptrdiff_t i = 0;
    for (; i + TOPS * WIDTH <= size; i += TOPS * WIDTH)
#pragma GCC unroll 4
        for (int j = 0; j < TOPS; j++)
            tops[j] = maximum(load(x + i + j * WIDTH), tops[j]);
    for (; i < size; i += WIDTH)
        tops[0] = maximum(load_padded(x + i, size - i, -(real)__builtin_inf()), tops[0]);
    return largest_lane(maximum(maximum(tops[0], tops[1]), maximum(tops[2], tops[3])));
}

/* Returns the sum of exp(x - top); each term goes to `to`, unless that is NULL. The row `next` is
   to be read next. */
INLINE real sum_exponentials(const real *x, real top, ptrdiff_t size, real *to, const real *next) {
    vec sums = splat(0);
    ptrdiff_t i = 0;
    for (; i + EXP_GROUP * WIDTH <= size; i += EXP_GROUP * WIDTH) {
        vec e[EXP_GROUP];
        for (int j = 0; j < EXP_GROUP; j++) {
            prefetch(next + i + j * WIDTH);
            e[j] = load(x + i + j * WIDTH) - top;
        }
        exp_group(e);
        sums += (e[0] + e[1]) + (e[2] + e[3]);
        for (int j = 0; j < EXP_GROUP && to; j++)
            store(to + i + j * WIDTH, e[j]);
    }
    for (; i < size; i += WIDTH) {
        vec e = exp_negative(load_padded(x + i, size - i, -(real)__builtin_inf()) - top);
        sums += e;
        if (to)
            store_first(to + i, e, size - i);
    }
    return sum_lanes(sums);
}

#endif
