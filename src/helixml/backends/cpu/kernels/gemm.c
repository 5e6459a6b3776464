/* Matrix product C = A B, after Goto & van de Geijn (2008), "Anatomy of high-performance
   matrix multiplication".

   B is packed once, by items of its own, into panels of COLUMNS columns: a step of a panel, that
   is its part of one row of B, is contiguous. Then each item computes a block of C. It takes k
   in runs of DEPTH steps; in each run it packs its rows of A likewise, into panels of ROWS
   rows, and multiplies all pairs of panels. A pair gives a tile of C, summed in registers.
   A panel of B stays in the L1 cache while the panels of A, in L2, pass by.

   An entry of C is summed over k in order, run by run, whatever the items are. */
#include "rows.h"

#include <stdlib.h>

#if defined(__AVX512F__) || defined(__aarch64__)
enum { ROWS = 12 }; /* 24 sums in 32 registers */
#else
enum { ROWS = 6 }; /* 12 sums in 16 registers */
#endif
enum { COLUMNS = 2 * WIDTH, DEPTH = 256 };

/* Up to so many columns in an item, A is not packed if its rows are contiguous: packing would
   cost more than reading rows that lie far apart. */
enum { FEW_COLUMNS = 1024 };

enum {
    STEPS_AT_ONCE = 4, /* packed for all panels in turn; best of 1, 2, 4, ... 64 */
    CACHE_LINE = 64 / sizeof(real),
};

_Static_assert(HELIX_GEMM_ROWS % ROWS == 0, "items must be whole panels");
_Static_assert(HELIX_GEMM_COLUMNS % COLUMNS == 0, "items must be whole panels");
_Static_assert(DEPTH % HELIX_GEMM_STEPS == 0, "runs must be whole items");

typedef struct {
    const real *data;
    ptrdiff_t row_stride, step_stride;
} panel;

INLINE ptrdiff_t round_up(ptrdiff_t size, ptrdiff_t unit) {
    return (size + unit - 1) / unit * unit;
}

/* Row i of step p goes to to[p * width + i]; rows from `rows` on are 0. */
INLINE void pack(real *to, ptrdiff_t width, panel from, ptrdiff_t rows, ptrdiff_t steps) {
    ptrdiff_t p = 0;
    if (rows == width && from.row_stride == 1) {
        for (; p < steps; p++)
            memcpy(to + p * width, from.data + p * from.step_stride, width * sizeof(real));
    } else if (rows == width) { /* rows may be contiguous: use up a cache line before the next */
        for (; p + CACHE_LINE <= steps; p += CACHE_LINE)
            for (ptrdiff_t i = 0; i < width; i++)
#pragma GCC unroll 16
                for (ptrdiff_t q = p; q < p + CACHE_LINE; q++)
                    to[q * width + i] = from.data[i * from.row_stride + q * from.step_stride];
    }
    for (; p < steps; p++)
        for (ptrdiff_t i = 0; i < width; i++)
            to[p * width + i] =
                i < rows ? from.data[i * from.row_stride + p * from.step_stride] : 0;
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
INLINE void multiply(ptrdiff_t steps, panel a, const real *b, int vectors, real *c,
                     ptrdiff_t c_row, int add) {
    vec sums[ROWS][2];
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; i++)
        sums[i][0] = sums[i][1] = splat(0);
    for (ptrdiff_t p = 0; p < steps; p++, a.data += a.step_stride, b += COLUMNS) {
        vec left = load(b), right = vectors > 1 ? load(b + WIDTH) : left;
#pragma GCC unroll 12
        for (int i = 0; i < ROWS; i++) {
            vec x = splat(a.data[i * a.row_stride]);
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

/* A tile with so many rows and columns; what is outside C goes into a buffer. */
static void tile(ptrdiff_t steps, panel a, const real *b, real *c, ptrdiff_t c_row,
                 ptrdiff_t rows, ptrdiff_t columns, int add) {
    real buffer[ROWS * COLUMNS];
    int whole = rows == ROWS && columns == COLUMNS;
    real *to = whole ? c : buffer;
    ptrdiff_t to_row = whole ? c_row : COLUMNS;
    if (columns <= WIDTH)
        multiply(steps, a, b, 1, buffer, COLUMNS, 0);
    else if (a.row_stride == 1 && a.step_stride == ROWS)
        multiply(steps, (panel){a.data, 1, ROWS}, b, 2, to, to_row, whole && add);
    else
        multiply(steps, (panel){a.data, a.row_stride, 1}, b, 2, to, to_row, whole && add);
    if (whole)
        return;
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j++)
            c[i * c_row + j] = buffer[i * COLUMNS + j] + (add ? c[i * c_row + j] : 0);
}

/* Where packed B has the panel at `column`, from the first step of a run on. */
static real *packed_panel(const helix_gemm *g, ptrdiff_t run, ptrdiff_t column) {
    return (real *)g->packed + run * round_up(g->columns, HELIX_GEMM_COLUMNS) +
           column * smaller(DEPTH, g->steps - run);
}

int EXPORT(gemm_pack)(const helix_gemm *g, ptrdiff_t first, ptrdiff_t last) {
    ptrdiff_t end = smaller(last * HELIX_GEMM_STEPS, g->steps);
    for (ptrdiff_t step = first * HELIX_GEMM_STEPS; step < end; step += HELIX_GEMM_STEPS) {
        ptrdiff_t run = step / DEPTH * DEPTH;
        panel b = {(const real *)g->b + step * g->b_step, g->b_column, g->b_step};
        pack_panels(packed_panel(g, run, 0) + (step - run) * COLUMNS, COLUMNS,
                    smaller(DEPTH, g->steps - run), b, g->columns,
                    smaller(HELIX_GEMM_STEPS, end - step));
    }
    return 0;
}

/* Rows row .. row_end - 1 and columns column .. column_end - 1 of C. */
static void block(const helix_gemm *g, ptrdiff_t row, ptrdiff_t row_end, ptrdiff_t column,
                  ptrdiff_t column_end, real *packed_a) {
    int direct = g->a_step == 1 && column_end - column <= FEW_COLUMNS;
    for (ptrdiff_t run = 0; run < g->steps; run += DEPTH) {
        ptrdiff_t steps = smaller(DEPTH, g->steps - run);
        const real *a = (const real *)g->a + run * g->a_step;
        ptrdiff_t pack_from = direct ? row + (row_end - row) / ROWS * ROWS : row;
        pack_panels(packed_a + (pack_from - row) * steps, ROWS, steps,
                    (panel){a + pack_from * g->a_row, g->a_row, g->a_step}, row_end - pack_from,
                    steps);
        for (ptrdiff_t j = column; j < column_end; j += COLUMNS)
            for (ptrdiff_t i = row; i < row_end; i += ROWS) {
                panel of_a = {packed_a + (i - row) * steps, 1, ROWS};
                if (i < pack_from)
                    of_a = (panel){a + i * g->a_row, g->a_row, 1};
                tile(steps, of_a, packed_panel(g, run, j), (real *)g->c + i * g->c_row + j,
                     g->c_row, smaller(ROWS, row_end - i), smaller(COLUMNS, column_end - j),
                     run > 0);
            }
    }
}

int EXPORT(gemm)(const helix_gemm *g, ptrdiff_t first, ptrdiff_t last) {
    real *packed_a = malloc(g->item_rows * smaller(DEPTH, g->steps) * sizeof(real));
    if (!packed_a)
        return HELIX_NO_MEMORY;
    ptrdiff_t across = (g->columns + g->item_columns - 1) / g->item_columns;
    for (ptrdiff_t item = first; item < last; item++) {
        ptrdiff_t row = item / across * g->item_rows;
        ptrdiff_t column = item % across * g->item_columns;
        block(g, row, smaller(row + g->item_rows, g->rows), column,
              smaller(column + g->item_columns, g->columns), packed_a);
    }
    free(packed_a);
    return 0;
}
