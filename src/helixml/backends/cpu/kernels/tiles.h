/* Tiles of a matrix product, as `gemm.c` explains them: panels of A, of ROWS rows, and of B, of
   COLUMNS columns, and the sums of a tile of C in registers. */
#ifndef HELIX_TILES_H
#define HELIX_TILES_H

#include "rows.h"

#if defined(__AVX512F__) || defined(__aarch64__)
enum { ROWS = 12 }; /* 24 sums in 32 registers */
#else
enum { ROWS = 6 }; /* 12 sums in 16 registers */
#endif
enum { COLUMNS = 2 * WIDTH };

enum { STEPS_AT_ONCE = 4 }; /* packed for all panels in turn; best of 1, 2, 4, ... 64 */

typedef struct {
    const real *data;
    ptrdiff_t row_stride, step_stride;
} panel;

/* Row i of step p goes to to[p * width + i]. Where there are fewer rows than the panel has,
   its others repeat the last. May write WIDTH - 1 entries more than the panel has. */
INLINE void pack(real *to, ptrdiff_t width, panel from, ptrdiff_t rows, ptrdiff_t steps) {
    if (from.row_stride == 1 && rows == width) {
        for (ptrdiff_t p = 0; p < steps; p++)
            memcpy(to + p * width, from.data + p * from.step_stride, width * sizeof(real));
        return;
    }
    ptrdiff_t p = 0;
    if (from.step_stride == 1)
        for (; p + WIDTH <= steps; p += WIDTH)
            /* From the last rows to the first: what the last squares have too much is
               overwritten by the first ones of the next step. */
            for (ptrdiff_t row = (width - 1) / WIDTH * WIDTH; row >= 0; row -= WIDTH) {
                vec square[WIDTH];
#pragma GCC unroll 16
                for (int i = 0; i < WIDTH; i++)
                    square[i] = load(from.data + smaller(row + i, rows - 1) * from.row_stride + p);
                transpose(square);
#pragma GCC unroll 16
                for (int i = 0; i < WIDTH; i++)
                    store(to + (p + i) * width + row, square[i]);
            }
    for (; p < steps; p++)
        for (ptrdiff_t i = 0; i < width; i++)
            to[p * width + i] =
                from.data[smaller(i, rows - 1) * from.row_stride + p * from.step_stride];
}

/* Any number of rows into panels that take up `depth` steps each. */
INLINE void pack_panels(real *to, ptrdiff_t width, ptrdiff_t depth, panel from, ptrdiff_t rows,
                        ptrdiff_t steps) {
    ptrdiff_t at_once = from.row_stride == 1 ? STEPS_AT_ONCE : steps;
    for (ptrdiff_t p = 0; p < steps; p += at_once)
        for (ptrdiff_t i = 0; i < rows; i += width) {
            panel part = from;
            part.data += i * from.row_stride + p * from.step_stride;
            pack(to + i * depth + p * width, width, part, smaller(width, rows - i),
                 smaller(at_once, steps - p));
        }
}

/* The first `vectors` vectors of each row of a tile: c = a b, or c += a b. */
INLINE void multiply(ptrdiff_t steps, const real *a, const real *b, int vectors, real *c,
                     ptrdiff_t c_row, int add) {
    vec sums[ROWS][2];
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; i++)
        sums[i][0] = sums[i][1] = splat(0);
    for (ptrdiff_t p = 0; p < steps; p++, a += ROWS, b += COLUMNS) {
        vec left = load(b), right = vectors > 1 ? load(b + WIDTH) : left;
#pragma GCC unroll 12
        for (int i = 0; i < ROWS; i++) {
            vec x = splat(a[i]);
            sums[i][0] += x * left;
            if (vectors > 1)
                sums[i][1] += x * right;
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++) {
            real *to = c + i * c_row + j * WIDTH;
            store(to, add ? load(to) + sums[i][j] : sums[i][j]);
        }
}

#endif
