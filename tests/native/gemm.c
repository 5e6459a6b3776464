/* Tests of the matrix products: every layout of the operands, sizes around those of tiles, items
   and runs, sums onto what is there, and what may follow the product. */
#include "matrices.h"

/* The rounding errors of a sum of so many products of numbers below 1, in EPS. */
static wide units(ptrdiff_t steps) { return 8 + (wide)steps / 4; }

static void test_product(const helix_table *table, ptrdiff_t rows, ptrdiff_t columns,
                         ptrdiff_t steps, int a_layout, int b_layout, int add, int finish) {
    begin_case("gemm %td x %td x %td, layouts %d, %d, add %d, finish %d", rows, columns, steps,
               a_layout, b_layout, add, finish);
    matrix a = random_matrix(rows, steps, (enum layout)a_layout);
    matrix b = random_matrix(steps, columns, (enum layout)b_layout);
    array packed = new_array(steps * round_up(columns, HELIX_GEMM_COLUMNS));
    array bias = random_array(columns, -1, 1);
    ptrdiff_t gap = any_below(2) * 5, row = columns + gap;
    array c = new_array((rows - 1) * row + columns), before = new_array(c.size);
    helix_gemm g = describe(rows, columns, steps, a, b);
    g.packed = packed.data;
    g.c = c.data, g.c_row = row, g.add = add;
    g.row_items = 1 + any_below(3), g.column_items = 1 + any_below(3);
    if (finish) {
        g.finish = 1;
        g.activation = finish % 4;
        g.bias = finish & 1 ? bias.data : NULL;
        g.before = finish & 2 ? before.data : NULL;
    }
    for (ptrdiff_t i = 0; add && i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j++)
            c.exact[i * row + j] = any_between(-1, 1);
    round_array(c);
    multiply_exactly(&g, a, b, c, before, bias);
    CHECK(run(table->gemm_pack, &g, round_up(steps, HELIX_GEMM_STEPS) / HELIX_GEMM_STEPS) == 0,
          "%s", "packing");
    CHECK(run(table->gemm, &g, g.row_items * g.column_items) == 0, "%s", "multiplying");
    CHECK_ARRAY(c, units(steps), 1);
    CHECK_ARRAY(before, units(steps), 1);
    free_arrays();
}

static void test_few_rows(const helix_table *table, ptrdiff_t rows, ptrdiff_t columns,
                          ptrdiff_t steps, int a_layout, int b_layout, int finish) {
    begin_case("few rows %td x %td x %td, layouts %d, %d, finish %d", rows, columns, steps,
               a_layout, b_layout, finish);
    matrix a = random_matrix(rows, steps, (enum layout)a_layout);
    matrix b = random_matrix(steps, columns, (enum layout)b_layout);
    array c = new_array(rows * columns), before = new_array(c.size);
    array bias = random_array(columns, -1, 1);
    helix_gemm g = describe(rows, columns, steps, a, b);
    if (g.b_column != 1 && (g.b_step != 1 || g.a_step != 1)) {
        free_arrays();
        return; /* not what the kernel takes */
    }
    g.c = c.data, g.c_row = columns;
    if (finish) {
        g.finish = 1;
        g.activation = finish % 4;
        g.bias = finish & 1 ? bias.data : NULL;
        g.before = finish & 2 ? before.data : NULL;
    }
    multiply_exactly(&g, a, b, c, before, bias);
    ptrdiff_t items = round_up(columns, HELIX_GEMM_FEW_COLUMNS) / HELIX_GEMM_FEW_COLUMNS;
    CHECK(run(table->gemm_few_rows, &g, items) == 0, "%td items", items);
    CHECK_ARRAY(c, units(steps), 1);
    CHECK_ARRAY(before, units(steps), 1);
    free_arrays();
}

/* Products in any order of the operands, some of them used twice. */
static void test_stack(const helix_table *table, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t steps,
                       int a_layout, int b_layout, int activation) {
    enum { PRODUCTS = 5 };
    begin_case("stack %td x %td x %td, layouts %d, %d", rows, columns, steps, a_layout, b_layout);
    matrix a[PRODUCTS], b[PRODUCTS];
    ptrdiff_t a_offsets[PRODUCTS], b_offsets[PRODUCTS];
    uint64_t seed = any_bits();
    for (int i = 0; i < PRODUCTS; i++) { /* alike in strides */
        set_seed(seed);
        a[i] = random_matrix(rows, steps, (enum layout)a_layout);
        b[i] = random_matrix(steps, columns, (enum layout)b_layout);
    }
    set_seed(seed + 1);
    a[3] = a[1], b[4] = b[0];
    helix_gemm_stack stack = {.each = describe(rows, columns, steps, a[0], b[0])};
    for (int i = 0; i < PRODUCTS; i++) {
        for (ptrdiff_t j = 0; j < a[i].memory.size; j++)
            a[i].memory.exact[j] = any_between(-1, 1);
        for (ptrdiff_t j = 0; j < b[i].memory.size; j++)
            b[i].memory.exact[j] = any_between(-1, 1);
        round_array(a[i].memory), round_array(b[i].memory);
        a_offsets[i] = (char *)(a[i].memory.data + a[i].first) - (char *)stack.each.a;
        b_offsets[i] = (char *)(b[i].memory.data + b[i].first) - (char *)stack.each.b;
    }
    array c = new_array(PRODUCTS * rows * columns), none = {0};
    stack.a_offsets = a_offsets, stack.b_offsets = b_offsets;
    stack.c_bytes = rows * columns * (ptrdiff_t)sizeof(real);
    stack.each.c = c.data, stack.each.c_row = columns;
    stack.each.row_items = 1 + any_below(3);
    stack.each.finish = activation != HELIX_IDENTITY, stack.each.activation = activation;
    for (int i = 0; i < PRODUCTS; i++) {
        array part = {NULL, c.exact + i * rows * columns, rows * columns};
        multiply_exactly(&stack.each, a[i], b[i], part, none, none);
    }
    CHECK(run(table->gemm_stack, &stack, PRODUCTS) == 0, "%d products", PRODUCTS);
    CHECK_ARRAY(c, units(steps), 1);
    free_arrays();
}

/* What is infinite or nan stays in its own row of a and column of b. */
static void test_odd_values(const helix_table *table) {
    begin_case("gemm of infinities and nan");
    ptrdiff_t rows = 13, columns = 35, steps = 20;
    matrix a = random_matrix(rows, steps, ROWS_CONTIGUOUS);
    matrix b = random_matrix(steps, columns, ROWS_CONTIGUOUS);
    a.memory.exact[2 * a.row + 3] = NAN;
    a.memory.exact[12 * a.row + 19] = INFINITY;
    a.memory.exact[5 * a.row] = INFINITY, a.memory.exact[5 * a.row + 1] = -INFINITY;
    b.memory.exact[7 * b.row + 34] = NAN;
    b.memory.exact[8 * b.row + 1] = -INFINITY;
    b.memory.exact[19 * b.row + 33] = 0; /* times infinity */
    round_array(a.memory), round_array(b.memory);
    array packed = new_array(steps * 64), c = new_array(rows * columns), none = {0};
    helix_gemm g = describe(rows, columns, steps, a, b);
    g.packed = packed.data, g.c = c.data, g.c_row = columns;
    multiply_exactly(&g, a, b, c, none, none);
    CHECK(run(table->gemm_pack, &g, 1) == 0 && run(table->gemm, &g, 1) == 0, "%td steps", steps);
    CHECK_ARRAY(c, units(steps), 1);
    free_arrays();
}

void TEST(test_gemm)(const helix_table *table);
void TEST(test_gemm)(const helix_table *table) {
    static const ptrdiff_t sizes[][3] = {
        {1, 1, 1}, {2, 3, 1}, {3, 2, 5}, {6, 16, 4}, {7, 17, 3}, {12, 32, 9}, {13, 33, 16},
        {11, 31, 65}, {25, 15, 17}, {37, 70, 63}, {14, 40, 255}, {13, 34, 257}, {5, 65, 515},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int layout = 0; layout < LAYOUTS * LAYOUTS; layout += THINNING)
            if (sizes[i][0] * sizes[i][1] * sizes[i][2] < 1000 || layout / THINNING % 8 == (int)i % 8)
                test_product(table, sizes[i][0], sizes[i][1], sizes[i][2], layout / LAYOUTS,
                             layout % LAYOUTS, (int)any_below(2), (int)any_below(9));
    static const ptrdiff_t few_sizes[][3] = {
        {1, 1, 1},   {1, 3, 7},  {2, 4, 16}, {3, 5, 17}, {1, 129, 33}, {4, 255, 1},
        {1, 256, 2}, {6, 40, 9}, {5, 31, 5}, {7, 257, 40}, {8, 700, 9}, {2, 69, 21},
    };
    for (size_t i = 0; i < sizeof few_sizes / sizeof *few_sizes; i++)
        for (int layout = 0; layout < LAYOUTS * LAYOUTS; layout++)
            test_few_rows(table, few_sizes[i][0], few_sizes[i][1], few_sizes[i][2],
                          layout / LAYOUTS, layout % LAYOUTS, (int)any_below(9));
    for (int layout = 0; layout < LAYOUTS * LAYOUTS; layout += THINNING)
        test_stack(table, 7 + 6 * (layout % 3), 9 + 8 * (layout % 4), 5 + 67 * (layout % 5),
                   layout / LAYOUTS, layout % LAYOUTS, layout % 4);
    test_odd_values(table);
}
