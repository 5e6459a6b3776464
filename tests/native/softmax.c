/* Tests of the softmax of rows and of its logarithm. */
#include "check.h"

#include <math.h>

enum values { USUAL, LARGE, MINUS_INFINITY, PLUS_INFINITY, SOME_NAN, VALUES };

static void set_values(array x, int values) {
    for (ptrdiff_t i = 0; i < x.size; i++) {
        x.exact[i] *= values == LARGE ? 1e4L : 5;
        if (values == MINUS_INFINITY && any_below(3) == 0)
            x.exact[i] = -INFINITY;
        if (values == PLUS_INFINITY && any_below(9) == 0)
            x.exact[i] = INFINITY;
        if (values == SOME_NAN && any_below(9) == 0)
            x.exact[i] = NAN;
    }
    round_array(x);
}

static void test_rows(const helix_table *table, ptrdiff_t rows, ptrdiff_t size, int logarithm,
                      int values) {
    begin_case("softmax of %td x %td, logarithm %d, values %d", rows, size, logarithm, values);
    ptrdiff_t stride = size + any_below(2) * 3, count = rows ? (rows - 1) * stride + size : 0;
    array x = random_array(count, -1, 1), g = random_array(count, -1, 1);
    array y = new_array(count), dx = new_array(count);
    set_values(x, values);
    for (ptrdiff_t r = 0; r < rows; r++) {
        const wide *row = x.exact + r * stride, *g_row = g.exact + r * stride;
        wide largest = -INFINITY, sum = 0, dot = 0;
        for (ptrdiff_t i = 0; i < size; i++)
            largest = row[i] > largest ? row[i] : largest;
        for (ptrdiff_t i = 0; i < size; i++)
            sum += expl(row[i] - largest);
        for (ptrdiff_t i = 0; i < size; i++) {
            wide share = expl(row[i] - largest) / sum;
            y.exact[r * stride + i] = logarithm ? row[i] - largest - logl(sum) : share;
            dot += logarithm ? g_row[i] : g_row[i] * share;
        }
        for (ptrdiff_t i = 0; i < size; i++) {
            wide share = expl(row[i] - largest) / sum;
            dx.exact[r * stride + i] = logarithm ? g_row[i] - share * dot
                                                 : share * (g_row[i] - dot);
        }
    }
    helix_softmax s = {
        .rows = rows, .size = size, .logarithm = logarithm, .x = {x.data, 0, 0, stride},
        .y = {y.data, 0, 0, stride},
    };
    CHECK(run(table->softmax_forward, &s, rows) == 0, "%td rows forward", rows);
    wide units = 8 + (wide)size / 8; /* sums of so many terms in vectors */
    CHECK_ELEMENTS(y, units, logarithm ? 1 : 0);
    s.x = (helix_rows){NULL, 0, 0, 0};
    s.g = (helix_rows){g.data, 0, 0, stride}, s.dx = (helix_rows){dx.data, 0, 0, stride};
    CHECK(run(table->softmax_backward, &s, rows) == 0, "%td rows backward", rows);
    /* A logarithm that is large has lost as many units before it is raised again. */
    CHECK_ARRAY(dx, units * (logarithm && values == LARGE ? 1e4L : 10), 1);
    free_arrays();
}

void TEST(test_softmax)(const helix_table *table);
void TEST(test_softmax)(const helix_table *table) {
    static const ptrdiff_t sizes[][2] = {{0, 3}, {1, 1}, {3, 2}, {5, 7}, {4, 16}, {3, 17},
                                         {2, 33}, {7, 64}, {2, 130}, {1, 1000}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int logarithm = 0; logarithm < 2; logarithm++)
            for (int values = 0; values < VALUES; values++)
                test_rows(table, sizes[i][0], sizes[i][1], logarithm, values);
}
