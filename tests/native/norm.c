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

typedef struct {
    ptrdiff_t rows, size, rows_in_item;
    int centred, has_bias, has_residual, has_g_total, values;
} shape;

typedef struct {
    array x, residual, y, total, weight, bias, mean, scale; /* forward */
    array g, g_total, dx, dweight, dbias;                   /* backward */
} operands;

/* One row, of which s was rounded to the dtype and the mean, where there is one, as well. */
static void normalise_exactly(const shape *z, const operands *o, ptrdiff_t row, ptrdiff_t stride,
                              wide eps) {
    ptrdiff_t size = z->size, start = row * stride, item = row / z->rows_in_item;
    const wide *s = (z->has_residual ? o->total : o->x).exact + start, *g = o->g.exact + start;
    wide mean = 0, squares = 0, slope = 0, shift = 0;
    for (ptrdiff_t i = 0; i < size && z->has_residual; i++)
        o->total.exact[start + i] = (real)(o->x.exact[start + i] + o->residual.exact[start + i]);
    for (ptrdiff_t i = 0; i < size && z->centred; i++)
        mean += s[i] / size;
    for (ptrdiff_t i = 0; i < size; i++)
        squares += (s[i] - mean) * (s[i] - mean) / size;
    wide scale = o->scale.exact[row] = 1 / sqrtl(squares + eps);
    if (z->centred)
        o->mean.exact[row] = mean;
    for (ptrdiff_t i = 0; i < size; i++) {
        wide normal = (s[i] - mean) * scale, q = g[i] * o->weight.exact[i];
        o->y.exact[start + i] = normal * o->weight.exact[i] + (z->has_bias ? o->bias.exact[i] : 0);
        slope += q * normal / size;
        shift += z->centred ? q / size : 0;
        o->dweight.exact[item * size + i] += g[i] * normal;
        o->dbias.exact[item * size + i] += z->has_bias ? g[i] : 0;
    }
    for (ptrdiff_t i = 0; i < size; i++)
        o->dx.exact[start + i] =
            scale * (g[i] * o->weight.exact[i] - shift - (s[i] - mean) * scale * slope) +
            (z->has_g_total ? o->g_total.exact[start + i] : 0);
}

static void test_shape(const helix_table *table, shape z) {
    begin_case("norm of %td x %td, %td rows in an item, centred %d, bias %d, residual %d, values %d",
               z.rows, z.size, z.rows_in_item, z.centred, z.has_bias, z.has_residual, z.values);
    ptrdiff_t rows = z.rows, size = z.size, stride = size + any_below(2) * 3;
    ptrdiff_t items = (rows + z.rows_in_item - 1) / z.rows_in_item;
    operands o = {
        .x = rows_with_gaps(rows, size, stride, 1), .residual = rows_with_gaps(rows, size, stride, 1),
        .y = rows_with_gaps(rows, size, stride, 0), .total = rows_with_gaps(rows, size, stride, 0),
        .weight = random_array(size, -1, 1), .bias = random_array(size, -1, 1),
        .mean = new_array(rows), .scale = new_array(rows),
        .g = rows_with_gaps(rows, size, stride, 1), .g_total = rows_with_gaps(rows, size, stride, 1),
        .dx = rows_with_gaps(rows, size, stride, 0), .dweight = zero_array(items * size),
        .dbias = zero_array(items * size),
    };
    set_values(o.x, z.values);
    if (z.values != USUAL)
        set_values(o.residual, z.values);
    helix_norm n = {
        .rows = rows, .size = size, .rows_in_item = z.rows_in_item, .centred = z.centred, .eps = 1e-3,
        .x = {o.x.data, 0, 0, stride}, .y = {o.y.data, 0, 0, stride}, .weight = o.weight.data,
        .bias = z.has_bias ? o.bias.data : NULL, .scale = o.scale.data,
        .mean = z.centred ? o.mean.data : NULL,
    };
    if (z.has_residual) {
        n.residual = (helix_rows){o.residual.data, 0, 0, stride};
        n.total = (helix_rows){o.total.data, 0, 0, stride};
    }
    for (ptrdiff_t r = 0; r < rows; r++)
        normalise_exactly(&z, &o, r, stride, n.eps);
    CHECK(run(table->norm_forward, &n, items) == 0, "%td items forward", items);
    /* Sums of so many terms in vectors; what is left of a mean's error is that of terms of x's
       size, times up to 1 / sqrt(eps). */
    wide units = 8 + (wide)size / 16, loss = z.centred ? 64 : 1;
    wide values_size = z.values == LARGE ? 0 : 1;
    CHECK_ARRAY(o.y, units * loss, values_size);
    CHECK_ARRAY(o.scale, units * loss, 0);
    CHECK_ARRAY(o.mean, units, values_size);
    CHECK_ARRAY(o.total, 0, 0);
    if (z.has_residual)
        n.x = n.total, n.residual = n.total = (helix_rows){NULL, 0, 0, 0};
    n.g = (helix_rows){o.g.data, 0, 0, stride}, n.dx = (helix_rows){o.dx.data, 0, 0, stride};
    if (z.has_g_total)
        n.g_total = (helix_rows){o.g_total.data, 0, 0, stride};
    n.dweight = o.dweight.data, n.dbias = z.has_bias ? o.dbias.data : NULL;
    CHECK(run(table->norm_backward, &n, items) == 0, "%td items backward", items);
    if (z.values == USUAL || z.values == ZERO) {
        wide steepest = 1 / sqrtl(n.eps);
        CHECK_ARRAY(o.dx, units * loss, steepest);
        CHECK_ARRAY(o.dweight, units * loss + (wide)z.rows_in_item, 1);
        CHECK_ARRAY(o.dbias, (wide)z.rows_in_item, 1);
    }
    free_arrays();
}

void TEST(test_norm)(const helix_table *table);
void TEST(test_norm)(const helix_table *table) {
    static const ptrdiff_t sizes[][3] = {{0, 5, 2}, {1, 1, 1}, {3, 2, 2}, {5, 7, 3}, {4, 16, 16},
                                         {9, 17, 4}, {3, 33, 1}, {33, 64, 16}, {5, 130, 2},
                                         {2, 250, 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int options = (int)i % 3; options < 16; options += 3 * THINNING)
            for (int values = 0; values < VALUES; values++)
                test_shape(table, (shape){sizes[i][0], sizes[i][1], sizes[i][2], options & 1,
                                          options >> 1 & 1, options >> 2 & 1, options >> 3, values});
}
