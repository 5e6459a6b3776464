/* What the matrix products of gemm.c and gemm_amx.c share: how a product is cut into blocks, and
   what is done to a tile of it whose sums are complete. */
#ifndef HELIX_GEMM_H
#define HELIX_GEMM_H

#include "rows.h"

/* A tile's sums are complete: add the bias, keep the result for the backward pass where it is
   wanted, and apply the activation, while the tile is in the L1 cache. */
INLINE void finish_tile(const helix_gemm *g, ptrdiff_t row, ptrdiff_t column, ptrdiff_t rows,
                        ptrdiff_t columns) {
    const real *bias = g->bias;
    for (ptrdiff_t i = 0; i < rows; i++) {
        real *c = (real *)g->c + (row + i) * g->c_row + column;
        real *before = g->before ? (real *)g->before + (row + i) * g->c_row + column : NULL;
        for (ptrdiff_t j = 0; j < columns; j += WIDTH) {
            ptrdiff_t count = columns - j;
            vec slope, x = load_first(c + j, count);
            if (bias)
                x += load_first(bias + column + j, count);
            if (before)
                store_first(before + j, x, count);
            if (g->activation == HELIX_SILU)
                x = silu(x, &slope);
            else if (g->activation == HELIX_GELU)
                x = gelu(x, &slope);
            else if (g->activation == HELIX_RELU)
                x = choose(x < (real)0, splat(0), x);
            store_first(c + j, x, count);
        }
    }
}

/* Where part `index` of a size begins if it is cut into so many parts of whole units. */
INLINE ptrdiff_t part_start(ptrdiff_t size, ptrdiff_t unit, ptrdiff_t parts, ptrdiff_t index) {
    return smaller(round_up(size, unit) / unit * index / parts * unit, size);
}

#endif
