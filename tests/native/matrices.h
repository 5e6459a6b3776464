/* Matrices in every layout, and their products in long double, for the tests of matrix products. */
#ifndef MATRICES_H
#define MATRICES_H

#include "check.h"

#include <math.h>

/* How a matrix lies in memory: strides, and where its first entry is. */
typedef struct {
    array memory;
    ptrdiff_t first, row, column;
} matrix;

enum layout { ROWS_CONTIGUOUS, COLUMNS_CONTIGUOUS, SPACED, BACKWARD, SAME_ROWS, SAME_COLUMNS, HANKEL,
              LAYOUTS };

static ptrdiff_t distance(ptrdiff_t size, ptrdiff_t stride) {
    return size > 0 ? (size - 1) * (stride < 0 ? -stride : stride) : 0;
}

static matrix random_matrix(ptrdiff_t rows, ptrdiff_t columns, enum layout layout) {
    matrix m = {.first = 0};
    ptrdiff_t gap = any_below(2) * 3;
    switch (layout) {
    case ROWS_CONTIGUOUS: m.row = columns + gap, m.column = 1; break;
    case COLUMNS_CONTIGUOUS: m.row = 1, m.column = rows + gap; break;
    case SPACED: m.row = 2 * columns + gap, m.column = 2; break;
    case BACKWARD: m.row = -columns, m.column = -1; break;
    case SAME_ROWS: m.row = 0, m.column = 1; break;
    case SAME_COLUMNS: m.row = 1, m.column = 0; break;
    default: m.row = m.column = 1; break;
    }
    ptrdiff_t size = rows && columns ? distance(rows, m.row) + distance(columns, m.column) + 1 : 0;
    if (layout == BACKWARD && size)
        m.first = size - 1;
    m.memory = random_array(size, -1, 1);
    return m;
}

static wide entry(matrix m, ptrdiff_t row, ptrdiff_t column) {
    return m.memory.exact[m.first + row * m.row + column * m.column];
}

static inline ptrdiff_t round_up(ptrdiff_t size, ptrdiff_t unit) {
    return (size + unit - 1) / unit * unit;
}

static wide activation(int kind, wide x) {
    if (kind == HELIX_SILU)
        return x / (1 + expl(-x));
    if (kind == HELIX_GELU)
        return x * erfcl(-x * sqrtl(0.5L)) / 2;
    return kind == HELIX_RELU && x < 0 ? 0 : x;
}

/* c's exact values, given those it had where they are added to. */
static void multiply_exactly(const helix_gemm *g, matrix a, matrix b, array c, array before,
                             array bias) {
    for (ptrdiff_t i = 0; i < g->rows; i++)
        for (ptrdiff_t j = 0; j < g->columns; j++) {
            wide sum = g->add ? c.exact[i * g->c_row + j] : 0;
            for (ptrdiff_t k = 0; k < g->steps; k++)
                sum += entry(a, i, k) * entry(b, k, j);
            if (g->bias)
                sum += bias.exact[j];
            if (g->before)
                before.exact[i * g->c_row + j] = sum;
            c.exact[i * g->c_row + j] = g->finish ? activation(g->activation, sum) : sum;
        }
}

static helix_gemm describe(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t steps, matrix a, matrix b) {
    return (helix_gemm){
        .rows = rows, .columns = columns, .steps = steps,
        .a = a.memory.data + a.first, .a_row = a.row, .a_step = a.column,
        .b = b.memory.data + b.first, .b_step = b.row, .b_column = b.column,
        .row_items = 1, .column_items = 1,
    };
}

#endif
