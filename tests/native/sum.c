/* Tests of sums of rows. */
#include "check.h"

static void test_rows(const helix_table *table, ptrdiff_t rows, ptrdiff_t size, ptrdiff_t in_item) {
    begin_case("sum of %td x %td, %td rows in an item", rows, size, in_item);
    ptrdiff_t stride = size + any_below(2) * 3, items = (rows + in_item - 1) / in_item;
    array x = random_array(rows ? (rows - 1) * stride + size : 0, -1, 1);
    array parts = zero_array(items * size);
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t i = 0; i < size; i++)
            parts.exact[r / in_item * size + i] += x.exact[r * stride + i];
    helix_sum s = {rows, size, in_item, {x.data, 0, 0, stride}, parts.data};
    CHECK(run(table->sum, &s, items) == 0, "%td items", items);
    CHECK_ARRAY(parts, 4, 4);
    CHECK_ARRAY(x, 0, 0);
    free_arrays();
}

void TEST(test_sum)(const helix_table *table);
void TEST(test_sum)(const helix_table *table) {
    static const ptrdiff_t sizes[][3] = {{0, 3, 4}, {1, 1, 32}, {7, 1, 3}, {5, 33, 32}, {64, 16, 32},
                                         {70, 5, 32}, {9, 17, 4}, {131, 40, 33}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        test_rows(table, sizes[i][0], sizes[i][1], sizes[i][2]);
}
