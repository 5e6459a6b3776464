/* Rows of channels, as kernels.h describes them, for the kernels of one dtype. */
#ifndef HELIX_ROWS_H
#define HELIX_ROWS_H

#include "kernels.h"
#include "simd.h"

INLINE ptrdiff_t smaller(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

INLINE real *row_at(helix_rows rows, ptrdiff_t batch, ptrdiff_t group, ptrdiff_t step) {
    return (real *)rows.data + batch * rows.batch_stride + group * rows.group_stride +
           step * rows.step_stride;
}

INLINE void add_first(real *to, vec x, ptrdiff_t count) {
    store_first(to, load_first(to, count) + x, count);
}

#endif
