/* Matrix product C = A B, after Goto & van de Geijn (2008), "Anatomy of high-performance
   matrix multiplication".

   B is packed once, by items of its own, into panels of COLUMNS columns: a step of a panel, that
   is its part of one row of B, is contiguous. Then each item computes a block of C. It takes k
   in runs of DEPTH steps; in each run it packs its rows of A likewise, into panels of ROWS
   rows, and multiplies all pairs of panels. A pair gives a tile of C, summed in registers.
   A panel of B stays in the L1 cache while the panels of A, in L2, pass by.

   An entry of C is summed over k in order, run by run, whatever the items are. */
#include "gemm.h"
#include "tiles.h"

enum { DEPTH = HELIX_GEMM_DEPTH };

_Static_assert(HELIX_GEMM_ROWS % ROWS == 0, "items must be whole panels");
_Static_assert(HELIX_GEMM_COLUMNS % COLUMNS == 0, "items must be whole panels");
_Static_assert(DEPTH % HELIX_GEMM_STEPS == 0, "runs must be whole items");

/* A tile with so many rows and columns; where these are few, by way of a whole tile. */
static void tile(ptrdiff_t steps, const real *a, const real *b, real *c, ptrdiff_t c_row,
                 ptrdiff_t rows, ptrdiff_t columns, int add) {
    if (rows == ROWS && columns == COLUMNS) {
        multiply(steps, a, b, 2, c, c_row, add);
        return;
    }
    real whole[ROWS * COLUMNS];
    if (columns > WIDTH)
        multiply(steps, a, b, 2, whole, COLUMNS, 0);
    else
        multiply(steps, a, b, 1, whole, COLUMNS, 0);
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j++)
            c[i * c_row + j] = whole[i * COLUMNS + j] + (add ? c[i * c_row + j] : 0);
}

/* Where packed B has the panel at `column`, from the first step of a run on. */
static real *packed_panel(const helix_gemm *g, ptrdiff_t run, ptrdiff_t column) {
    return (real *)g->packed + run * round_up(g->columns, HELIX_GEMM_COLUMNS) +
           column * smaller(DEPTH, g->steps - run);
}

int EXPORT(gemm_pack)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_gemm *g = call;
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
    for (ptrdiff_t run = 0; run < g->steps; run += DEPTH) {
        ptrdiff_t steps = smaller(DEPTH, g->steps - run);
        const real *a = (const real *)g->a + row * g->a_row + run * g->a_step;
        pack_panels(packed_a, ROWS, steps, (panel){a, g->a_row, g->a_step}, row_end - row, steps);
        int is_last = g->finish && run + DEPTH >= g->steps;
        for (ptrdiff_t j = column; j < column_end; j += COLUMNS)
            for (ptrdiff_t i = row; i < row_end; i += ROWS) {
                ptrdiff_t rows = smaller(ROWS, row_end - i), columns = smaller(COLUMNS, column_end - j);
                tile(steps, packed_a + (i - row) * steps, packed_panel(g, run, j),
                     (real *)g->c + i * g->c_row + j, g->c_row, rows, columns, g->add || run > 0);
                if (is_last)
                    finish_tile(g, i, j, rows, columns);
            }
    }
}

/* Entries of packed A that the largest block needs. */
static ptrdiff_t packed_size(const helix_gemm *g) {
    ptrdiff_t most_rows = (g->rows / HELIX_GEMM_ROWS / g->row_items + 2) * HELIX_GEMM_ROWS;
    return round_up(most_rows * smaller(DEPTH, g->steps) + WIDTH, WIDTH);
}

int EXPORT(gemm)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_gemm *g = call;
    real *packed_a = helix_workspace(packed_size(g) * sizeof(real));
    if (!packed_a)
        return HELIX_NO_MEMORY;
    for (ptrdiff_t item = first; item < last; item++) {
        ptrdiff_t i = item / g->column_items, j = item % g->column_items;
        block(g, part_start(g->rows, HELIX_GEMM_ROWS, g->row_items, i),
              part_start(g->rows, HELIX_GEMM_ROWS, g->row_items, i + 1),
              part_start(g->columns, HELIX_GEMM_COLUMNS, g->column_items, j),
              part_start(g->columns, HELIX_GEMM_COLUMNS, g->column_items, j + 1), packed_a);
    }
    return 0;
}

/* A stack of products, each by one thread. */
int EXPORT(gemm_stack)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_gemm_stack *stack = call;
    helix_gemm g = stack->each;
    ptrdiff_t a_size = packed_size(&g), b_size = g.steps * round_up(g.columns, HELIX_GEMM_COLUMNS);
    real *packed_a = helix_workspace((a_size + b_size) * sizeof(real));
    if (!packed_a)
        return HELIX_NO_MEMORY;
    g.packed = packed_a + a_size;
    for (ptrdiff_t item = first; item < last; item++) {
        g.a = (const char *)stack->each.a + stack->a_offsets[item];
        g.b = (const char *)stack->each.b + stack->b_offsets[item];
        g.c = (char *)stack->each.c + item * stack->c_bytes;
        for (ptrdiff_t i = 0; i * HELIX_GEMM_STEPS < g.steps; i++)
            EXPORT(gemm_pack)(&g, i, i + 1);
        for (ptrdiff_t i = 0; i < g.row_items; i++)
            block(&g, part_start(g.rows, HELIX_GEMM_ROWS, g.row_items, i),
                  part_start(g.rows, HELIX_GEMM_ROWS, g.row_items, i + 1), 0, g.columns, packed_a);
    }
    return 0;
}

/* A few rows of A are multiplied without packing: B is read once, as it lies. Rows are taken in
   groups whose sums stay in registers, of which there are 16 or more. */
enum { GROUP = 4 };

/* Sums of a[i, p] times row p of B, for columns that are contiguous. */
INLINE void add_up_rows(const helix_gemm *g, ptrdiff_t row, int rows, ptrdiff_t column,
                        int vectors, ptrdiff_t columns) {
    const real *a = (const real *)g->a + row * g->a_row, *b = (const real *)g->b + column;
    vec sums[GROUP][8] = {{{0}}};
    for (ptrdiff_t p = 0; p < g->steps; p++, a += g->a_step, b += g->b_step)
#pragma GCC unroll 8
        for (int j = 0; j < vectors; j++) {
            vec y = load_first(b + j * WIDTH, columns - j * WIDTH);
#pragma GCC unroll 4
            for (int i = 0; i < rows; i++)
                sums[i][j] += a[i * g->a_row] * y;
        }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int j = 0; j < vectors; j++)
            store_first((real *)g->c + (row + i) * g->c_row + column + j * WIDTH, sums[i][j],
                        columns - j * WIDTH);
}

/* Scalar products of rows of A with columns of B; the entries of both are contiguous. */
INLINE void add_up_columns(const helix_gemm *g, ptrdiff_t row, int rows, ptrdiff_t column,
                           int at_once, ptrdiff_t columns) {
    const real *a = (const real *)g->a + row * g->a_row, *b[4];
    vec sums[GROUP][4] = {{{0}}};
#pragma GCC unroll 4
    for (int j = 0; j < at_once; j++)
        b[j] = (const real *)g->b + (column + smaller(j, columns - 1)) * g->b_column;
    for (ptrdiff_t p = 0; p < g->steps; p += WIDTH) {
        vec y[4];
#pragma GCC unroll 4
        for (int j = 0; j < at_once; j++)
            y[j] = load_first(b[j] + p, g->steps - p);
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) {
            vec x = load_first(a + i * g->a_row + p, g->steps - p);
#pragma GCC unroll 4
            for (int j = 0; j < at_once; j++)
                sums[i][j] += x * y[j];
        }
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < smaller(at_once, columns); j++)
            ((real *)g->c)[(row + i) * g->c_row + column + j] = sum_lanes(sums[i][j]);
}

/* Some columns of all rows, in groups of `rows` rows, of which the last may begin early. */
INLINE void few_rows(const helix_gemm *g, int rows, ptrdiff_t column, ptrdiff_t end) {
    int by_columns = g->b_column != 1 || (g->b_step == 1 && g->a_step == 1);
    int at_once = rows < 4 ? 4 : 3, vectors = rows == 1 ? 8 : rows == 2 ? 4 : 2;
    while (column < end) {
        ptrdiff_t left = end - column;
        int whole = left >= vectors * WIDTH;
        for (ptrdiff_t i = 0; i < g->rows; i += rows) {
            ptrdiff_t row = smaller(i, g->rows - rows);
            if (by_columns)
                add_up_columns(g, row, rows, column, at_once, left);
            else if (whole)
                add_up_rows(g, row, rows, column, vectors, vectors * WIDTH);
            else
                add_up_rows(g, row, rows, column, 1, left);
        }
        column += by_columns ? at_once : whole ? vectors * WIDTH : WIDTH;
    }
}

int EXPORT(gemm_few_rows)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_gemm *g = call;
    ptrdiff_t column = first * HELIX_GEMM_FEW_COLUMNS;
    ptrdiff_t end = smaller(last * HELIX_GEMM_FEW_COLUMNS, g->columns);
    switch (g->rows) {
    case 1: few_rows(g, 1, column, end); break;
    case 2: few_rows(g, 2, column, end); break;
    case 3: few_rows(g, 3, column, end); break;
    default: few_rows(g, GROUP, column, end); break;
    }
    if (g->finish)
        finish_tile(g, 0, column, g->rows, end - column);
    return 0;
}
