/* Tests of rows taken from a table by index and added to it, and of indices that are none. */
#include "check.h"

static int64_t *random_indices(ptrdiff_t count, ptrdiff_t size) {
    int64_t *indices = guarded((size_t)count * sizeof *indices);
    for (ptrdiff_t i = 0; i < count; i++)
        indices[i] = any_below(2 * size) - size;
    if (count > 1)
        indices[0] = -size, indices[count - 1] = size - 1;
    return indices;
}

static void test_rows(const helix_table *table, ptrdiff_t count, ptrdiff_t width, ptrdiff_t size,
                      ptrdiff_t rows_in_item) {
    begin_case("%td of %td rows of %td", count, size, width);
    ptrdiff_t stride = width + any_below(2) * 3, row_stride = width + any_below(2) * 5;
    array from = random_array((size - 1) * stride + width, -1, 1);
    array sums = random_array(from.size, -1, 1);
    array taken = new_array(count ? (count - 1) * row_stride + width : 0);
    array added = random_array(taken.size, -1, 1);
    int64_t *indices = random_indices(count, size);
    for (ptrdiff_t i = 0; i < count; i++)
        for (ptrdiff_t k = 0; k < width; k++) {
            ptrdiff_t row = (ptrdiff_t)(indices[i] < 0 ? indices[i] + size : indices[i]);
            taken.exact[i * row_stride + k] = from.exact[row * stride + k];
            sums.exact[row * stride + k] += added.exact[i * row_stride + k];
        }
    helix_gather g = {
        .count = count, .width = width, .size = size, .rows_in_item = rows_in_item,
        .indices = indices, .table = {from.data, 0, 0, stride}, .rows = {taken.data, 0, 0, row_stride},
    };
    CHECK(run(table->gather, &g, (count + rows_in_item - 1) / rows_in_item) == 0, "%td rows", count);
    CHECK_ARRAY(taken, 0, 0);
    g.table.data = sums.data, g.rows.data = added.data;
    ptrdiff_t items = (width + HELIX_SCATTER_COLUMNS - 1) / HELIX_SCATTER_COLUMNS;
    CHECK(run(table->scatter, &g, items) == 0, "%td columns", width);
    CHECK_ARRAY(sums, 1 + (wide)count / 4, 1);
    free_arrays();
}

/* An index that is none fails, and nothing outside of the arrays is touched. */
static void test_bad_indices(const helix_table *table) {
    static const int64_t bad[] = {-6, 5, INT64_MAX, INT64_MIN, (int64_t)1 << 32};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        begin_case("index %lld of 5 rows", (long long)bad[i]);
        array from = random_array(5 * 7, -1, 1), rows = random_array(3 * 7, -1, 1);
        int64_t *indices = random_indices(3, 5);
        indices[1] = bad[i];
        helix_gather g = {
            .count = 3, .width = 7, .size = 5, .rows_in_item = 2, .indices = indices,
            .table = {from.data, 0, 0, 7}, .rows = {rows.data, 0, 0, 7},
        };
        CHECK(run(table->gather, &g, 2) == HELIX_BAD_INDEX, "%s", "taken");
        CHECK(run(table->scatter, &g, 1) == HELIX_BAD_INDEX, "%s", "added");
        free_arrays();
    }
}

void TEST(test_gather)(const helix_table *table);
void TEST(test_gather)(const helix_table *table) {
    static const ptrdiff_t sizes[][4] = {{0, 3, 2, 1}, {1, 1, 1, 1}, {7, 1, 3, 2}, {40, 5, 9, 16},
                                         {17, 31, 4, 3}, {9, 32, 100, 9}, {33, 33, 2, 8},
                                         {100, 129, 50, 7}, {5, 64, 5, 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        test_rows(table, sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3]);
    test_bad_indices(table);
}
