/* Tests of copies of rows. */
#include "check.h"

static void test_rows(const helix_table *table, ptrdiff_t rows, ptrdiff_t size) {
    begin_case("copy of %td x %td", rows, size);
    ptrdiff_t stride = size + any_below(2) * 3, to_stride = size + any_below(2) * 5;
    array from = random_array(rows ? (rows - 1) * stride + size : 0, -1, 1);
    array to = new_array(rows ? (rows - 1) * to_stride + size : 0);
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t i = 0; i < size; i++)
            to.exact[r * to_stride + i] = from.exact[r * stride + i];
    helix_copy c = {rows, size, {from.data, 0, 0, stride}, {to.data, 0, 0, to_stride}};
    ptrdiff_t items = rows * ((size + HELIX_COPY_RUN - 1) / HELIX_COPY_RUN);
    CHECK(run(table->copy, &c, items) == 0, "%td items", items);
    CHECK_ARRAY(to, 0, 0);
    free_arrays();
}

void TEST(test_copy)(const helix_table *table);
void TEST(test_copy)(const helix_table *table) {
    static const ptrdiff_t sizes[][2] = {{0, 3}, {1, 1}, {7, 1}, {5, 33}, {3, HELIX_COPY_RUN},
                                         {2, 2 * HELIX_COPY_RUN + 1}, {4, HELIX_COPY_RUN - 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        test_rows(table, sizes[i][0], sizes[i][1]);
}
