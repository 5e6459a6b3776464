/* Tests of the matrix products on AMX, whose tiles are emulated here as Intel describes them, so
   that they run on any processor: every layout, sizes around those of tiles and runs, and the
   errors of numbers split in two. */
#define HELIX_EMULATED_TILES
#define HELIX_ISA generic
#define HELIX_DOUBLE 0
#define helix_gemm_amx emulated_gemm_amx /* the real ones are linked too */
#define helix_gemm_amx_pack emulated_gemm_amx_pack
#define round_up kernels_round_up /* beside that of matrices.h */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_layout;

static _Thread_local tile_layout layout;
static _Thread_local unsigned char tiles[8][16][64];

static void _tile_loadconfig(const void *from) { layout = *(const tile_layout *)from; }
static void _tile_release(void) { layout.palette = 0; }
static void _tile_zero(int t) { memset(tiles[t], 0, sizeof tiles[t]); }

static void _tile_loadd(int t, const void *from, ptrdiff_t stride) {
    for (int i = 0; layout.palette == 1 && i < layout.rows[t]; i++)
        memcpy(tiles[t][i], (const char *)from + i * stride, layout.row_bytes[t]);
}

static void _tile_stored(int t, void *to, ptrdiff_t stride) {
    for (int i = 0; layout.palette == 1 && i < layout.rows[t]; i++)
        memcpy((char *)to + i * stride, tiles[t][i], layout.row_bytes[t]);
}

static float half_at(int t, int row, int i) {
    uint32_t bits = 0;
    float x;
    memcpy((char *)&bits + 2, &tiles[t][row][2 * i], 2);
    memcpy(&x, &bits, 4);
    return x;
}

static void _tile_dpbf16ps(int c, int a, int b) {
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) {
            float even = 0, odd = 0, sum;
            for (int k = 0; k < 16; k++) {
                even += half_at(a, i, 2 * k) * half_at(b, k, 2 * j);
                odd += half_at(a, i, 2 * k + 1) * half_at(b, k, 2 * j + 1);
            }
            memcpy(&sum, &tiles[c][i][4 * j], 4);
            sum += even + odd;
            memcpy(&tiles[c][i][4 * j], &sum, 4);
        }
}

#include "gemm_amx.c"
#undef round_up
#include "matrices.h"

/* Of a product of numbers below 1: what splitting leaves out, whose signs vary, and the rounding
   errors of the sum. Without the lower parts the errors are a hundred times as large. */
static wide units(ptrdiff_t steps) { return sqrtl(steps) * 0x1p-14L / EPS + 8 + (wide)steps; }

static void test_product(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t steps, int a_layout,
                         int b_layout, int add, int finish, int split_too) {
    begin_case("gemm_amx %td x %td x %td, layouts %d, %d, add %d, finish %d, split %d", rows,
               columns, steps, a_layout, b_layout, add, finish, split_too);
    matrix a = random_matrix(rows, steps, (enum layout)a_layout);
    matrix b = random_matrix(steps, columns, (enum layout)b_layout);
    for (ptrdiff_t i = 0; !split_too && i < a.memory.size + b.memory.size; i++) {
        array m = i < a.memory.size ? a.memory : b.memory; /* numbers of bfloat16 */
        ptrdiff_t k = i < a.memory.size ? i : i - a.memory.size;
        m.exact[k] = ldexpl(roundl(ldexpl(m.exact[k], 7)), -7);
    }
    round_array(a.memory), round_array(b.memory);
    array packed = new_array(round_up(steps, 32) * round_up(columns, HELIX_GEMM_COLUMNS));
    array bias = random_array(columns, -1, 1);
    ptrdiff_t gap = any_below(2) * 5, row = columns + gap;
    array c = new_array((rows - 1) * row + columns), before = new_array(c.size);
    helix_gemm g = describe(rows, columns, steps, a, b);
    g.packed = packed.data, g.split = split_too;
    g.c = c.data, g.c_row = row, g.add = add;
    g.row_items = 1 + any_below(3), g.column_items = 1 + any_below(3);
    if (finish) {
        g.finish = 1, g.activation = finish % 4;
        g.bias = finish & 1 ? bias.data : NULL;
        g.before = finish & 2 ? before.data : NULL;
    }
    for (ptrdiff_t i = 0; add && i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j++)
            c.exact[i * row + j] = any_between(-1, 1);
    round_array(c);
    multiply_exactly(&g, a, b, c, before, bias);
    CHECK(run(helix_gemm_amx_pack, &g, round_up(steps, HELIX_GEMM_STEPS) / HELIX_GEMM_STEPS) == 0,
          "%s", "packing");
    CHECK(run(helix_gemm_amx, &g, g.row_items * g.column_items) == 0, "%s", "multiplying");
    wide allowed = split_too ? units(steps) : 8 + (wide)steps;
    CHECK_ARRAY(c, allowed, 1);
    CHECK_ARRAY(before, allowed, 1);
    free_arrays();
}

/* A number and what is left of it after both parts. */
static void test_splitting(void) {
    begin_case("splitting");
    float kept[16], from[16];
    words high, low;
    for (int round = 0; round < 1000; round++) {
        for (int i = 0; i < 16; i++)
            from[i] = (float)ldexpl(any_between(-1, 1), (int)any_below(160) - 80);
        split_in_two(from, &high, &low);
        for (int i = 0; i < 16; i++) {
            CHECK(!(high[i] & 0xffff) && !(low[i] & 0xffff), "%x, %x", high[i], low[i]);
            kept[i] = ((numbers)high)[i] + ((numbers)low)[i];
            CHECK(fabsf(kept[i] - from[i]) <= 0x1p-16f * fabsf(from[i]), "%g of %g", kept[i],
                  from[i]);
        }
    }
    float odd[16] = {INFINITY, -INFINITY, NAN, 3.4028235e38f, -3.4028235e38f, 0, -0.0f};
    split_in_two(odd, &high, &low);
    numbers h = (numbers)high, l = (numbers)low;
    CHECK(h[0] == INFINITY && h[1] == -INFINITY && isnan(h[2]), "%g, %g, %g", h[0], h[1], h[2]);
    wide rest = odd[3] - ((wide)h[3] + l[3]);
    CHECK(isfinite(h[3]) && isfinite(l[3]) && fabsl(rest) < 1e34L, "%Lg", rest);
    CHECK(isfinite(h[4]) && h[5] == 0 && h[6] == 0 && signbit(h[6]), "%g, %g", h[4], h[6]);
}

/* What is nan stays in its own row of a and column of b. */
static void test_nan(void) {
    begin_case("gemm_amx of nan");
    ptrdiff_t rows = 35, columns = 40, steps = 20;
    matrix a = random_matrix(rows, steps, ROWS_CONTIGUOUS);
    matrix b = random_matrix(steps, columns, ROWS_CONTIGUOUS);
    a.memory.exact[33 * a.row + 19] = NAN;
    b.memory.exact[19 * b.row + 39] = NAN;
    round_array(a.memory), round_array(b.memory);
    array packed = new_array(32 * 64), c = new_array(rows * columns), none = {0};
    helix_gemm g = describe(rows, columns, steps, a, b);
    g.packed = packed.data, g.c = c.data, g.c_row = columns, g.split = 1;
    multiply_exactly(&g, a, b, c, none, none);
    CHECK(run(helix_gemm_amx_pack, &g, 1) == 0 && run(helix_gemm_amx, &g, 1) == 0, "%td", steps);
    CHECK_ARRAY(c, units(steps), 1);
    free_arrays();
}

int main(void) {
    report_crashes();
    set_seed(5);
    static const ptrdiff_t sizes[][3] = {
        {1, 1, 1}, {2, 3, 5}, {32, 32, 32}, {33, 31, 33}, {16, 17, 64}, {64, 70, 63},
        {40, 33, 255}, {13, 64, 257}, {65, 97, 300}, {5, 65, 515},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int order = 0; order < LAYOUTS * LAYOUTS; order += 3)
            test_product(sizes[i][0], sizes[i][1], sizes[i][2], order / LAYOUTS, order % LAYOUTS,
                         (int)any_below(2), (int)any_below(9), order % 2);
    test_splitting();
    test_nan();
    return exit_code();
}
