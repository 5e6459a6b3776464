/* Tests of the normalisation of rows: any length of rows, any number of them in an item, gaps
   between rows, with and without residual. */
#include "check.h"

#include <math.h>

static array rows_with_gaps(ptrdiff_t rows, ptrdiff_t size, ptrdiff_t stride, int random) {
    ptrdiff_t count = rows ? (rows - 1) * stride + size : 0;
    return random ? random_array(count, -2, 2) : new_array(count);
}

enum values { USUAL, LARGE, TINY, ZERO, ODD, VALUES };

static void set_values(array x, int values) {
    for (ptrdiff_t i = 0; i < x.size; i++) {
        wide big = sizeof(real) == 4 ? 1e15L : 1e140L, tiny = sizeof(real) == 4 ? 1e-40L : 1e-310L;
        if (values == LARGE || values == TINY || values == ZERO)
            x.exact[i] *= values == LARGE ? big : values == TINY ? tiny : 0;
        if (values == ODD && any_below(11) == 0)
            x.exact[i] = any_below(2) ? NAN : INFINITY;
    }
    round_array(x);
}

static void test_rms(const helix_table *table, ptrdiff_t rows, ptrdiff_t size,
                     ptrdiff_t rows_in_item, int has_residual, int has_g_total, int values) {
    begin_case("rms norm of %td x %td, %td rows in an item, residual %d, values %d", rows, size,
               rows_in_item, has_residual, values);
    ptrdiff_t stride = size + any_below(2) * 3, items = (rows + rows_in_item - 1) / rows_in_item;
    array x = rows_with_gaps(rows, size, stride, 1), residual = rows_with_gaps(rows, size, stride, 1);
    array y = rows_with_gaps(rows, size, stride, 0), total = rows_with_gaps(rows, size, stride, 0);
    array g = rows_with_gaps(rows, size, stride, 1), g_total = rows_with_gaps(rows, size, stride, 1);
    array dx = rows_with_gaps(rows, size, stride, 0);
    array weight = random_array(size, -1, 1), scale = new_array(rows);
    array dweight = zero_array(items * size);
    set_values(x, values);
    if (values != USUAL)
        set_values(residual, values);
    helix_norm n = {
        .rows = rows, .size = size, .rows_in_item = rows_in_item, .eps = 1e-5,
        .x = {x.data, 0, 0, stride}, .y = {y.data, 0, 0, stride}, .weight = weight.data,
        .scale = scale.data,
    };
    if (has_residual) {
        n.residual = (helix_rows){residual.data, 0, 0, stride};
        n.total = (helix_rows){total.data, 0, 0, stride};
    }
    for (ptrdiff_t r = 0; r < rows; r++) {
        wide squares = 0, dot = 0;
        for (ptrdiff_t i = 0; i < size; i++) {
            ptrdiff_t at = r * stride + i;
            wide s = x.exact[at];
            if (has_residual)
                s = total.exact[at] = (real)(s + residual.exact[at]);
            squares += s * s / size;
        }
        scale.exact[r] = 1 / sqrtl(squares + n.eps);
        for (ptrdiff_t i = 0; i < size; i++) {
            ptrdiff_t at = r * stride + i;
            wide s = has_residual ? total.exact[at] : x.exact[at];
            y.exact[at] = s * scale.exact[r] * weight.exact[i];
            dot += s * g.exact[at] * weight.exact[i] / size;
            dweight.exact[r / rows_in_item * size + i] += g.exact[at] * s * scale.exact[r];
        }
        for (ptrdiff_t i = 0; i < size; i++) {
            ptrdiff_t at = r * stride + i;
            wide s = has_residual ? total.exact[at] : x.exact[at];
            dx.exact[at] = scale.exact[r] * g.exact[at] * weight.exact[i] -
                           s * dot * scale.exact[r] * scale.exact[r] * scale.exact[r];
            if (has_g_total)
                dx.exact[at] += g_total.exact[at];
        }
    }
    CHECK(run(table->norm_forward, &n, items) == 0, "%td items forward", items);
    wide units = 8 + (wide)size / 16; /* sums of so many terms in vectors */
    CHECK_ARRAY(y, units, 0);
    CHECK_ARRAY(scale, units, 0);
    CHECK_ARRAY(total, 0, 0);
    if (has_residual)
        n.x = n.total, n.residual = (helix_rows){NULL, 0, 0, 0};
    n.g = (helix_rows){g.data, 0, 0, stride}, n.dx = (helix_rows){dx.data, 0, 0, stride};
    if (has_g_total)
        n.g_total = (helix_rows){g_total.data, 0, 0, stride};
    n.dweight = dweight.data;
    CHECK(run(table->norm_backward, &n, items) == 0, "%td items backward", items);
    if (values == USUAL || values == ZERO) {
        CHECK_ARRAY(dx, units, 1);
        CHECK_ARRAY(dweight, units + (wide)rows_in_item, 1);
    }
    free_arrays();
}

void TEST(test_norm)(const helix_table *table);
void TEST(test_norm)(const helix_table *table) {
    static const ptrdiff_t sizes[][3] = {{0, 5, 2}, {1, 1, 1}, {3, 2, 2}, {5, 7, 3}, {4, 16, 16},
                                         {9, 17, 4}, {3, 33, 1}, {33, 64, 16}, {2, 250, 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int options = 0; options < 4; options++)
            for (int values = 0; values < VALUES; values++)
                test_rms(table, sizes[i][0], sizes[i][1], sizes[i][2], options & 1, options >> 1,
                         values);
}
