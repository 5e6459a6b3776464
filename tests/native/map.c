/* Tests of the functions of single elements: values, gradients, one element for a whole row, numbers
   of all sizes and what is no number. */
#include "check.h"

#include <math.h>
#include <string.h>

static const char *const names[] = {
#define NAME(name) #name,
    HELIX_EACH_FUNCTION(NAME)
};

enum { FUNCTIONS = sizeof names / sizeof *names };

static wide sigmoid(wide x) { return 1 / (1 + expl(-x)); }
static wide normal(wide x) { return erfcl(-x * sqrtl(0.5L)) / 2; }
static wide softplus(wide x) { return (x > 0 ? x : 0) + log1pl(expl(-fabsl(x))); }
static wide silu(wide x) { return x * sigmoid(x); }
static wide silu_slope(wide x) { return sigmoid(x) * (1 + x * sigmoid(-x)); }
static wide gelu(wide x) { return x * normal(x); }
static wide gelu_slope(wide x) {
    return normal(x) + x * expl(-x * x / 2) / sqrtl(8 * atanl(1));
}

static wide larger(wide x, wide y) { return isnan(x) || x >= y ? x : y; }
static wide lesser(wide x, wide y) { return isnan(x) || x <= y ? x : y; }

/* `other` gets the gradient of y where there are two. */
static wide exact(int function, wide x, wide y, wide g, wide *other) {
    switch (function) {
    case HELIX_MAP_exp: return expl(x);
    case HELIX_MAP_expm1: return expm1l(x);
    case HELIX_MAP_log: return logl(x);
    case HELIX_MAP_log1p: return log1pl(x);
    case HELIX_MAP_tanh: return tanhl(x);
    case HELIX_MAP_sigmoid: return sigmoid(x);
    case HELIX_MAP_erf: return erfl(x);
    case HELIX_MAP_sqrt: return sqrtl(x);
    case HELIX_MAP_square: return x * x;
    case HELIX_MAP_negative: return -x;
    case HELIX_MAP_absolute: return fabsl(x);
    case HELIX_MAP_add: return x + y;
    case HELIX_MAP_subtract: return x - y;
    case HELIX_MAP_multiply: return x * y;
    case HELIX_MAP_divide: return x / y;
    case HELIX_MAP_maximum: return larger(x, y);
    case HELIX_MAP_minimum: return lesser(x, y);
    case HELIX_MAP_chain: return x == 0 && !isfinite(y) ? 0 : x * y;
    case HELIX_MAP_quotient: return x == 0 && !(y < 0 || y > 0) ? 0 : x / y;
    case HELIX_MAP_silu: return silu(x);
    case HELIX_MAP_silu_pull: return silu_slope(x) * y;
    case HELIX_MAP_silu_gate: return x * silu(y);
    case HELIX_MAP_silu_gate_pull: *other = g * x * silu_slope(y); return g * silu(y);
    case HELIX_MAP_gelu: return gelu(x);
    case HELIX_MAP_gelu_pull: return gelu_slope(x) * y;
    case HELIX_MAP_gelu_gate: return x * gelu(y);
    case HELIX_MAP_gelu_gate_pull: *other = g * x * gelu_slope(y); return g * gelu(y);
    case HELIX_MAP_softplus: return softplus(x);
    case HELIX_MAP_softplus_pull: return sigmoid(x) * y;
    default: CHECK(0, "no exact function %d", function); return 0;
    }
}

static int ends_in(const char *name, const char *end) {
    size_t size = strlen(name), end_size = strlen(end);
    return size >= end_size && strcmp(name + size - end_size, end) == 0;
}

static void set_odd(array x) {
    wide tiny = sizeof(real) == 4 ? 0x1p-149L : 0x1p-1074L;
    wide huge = sizeof(real) == 4 ? 0x1p127L : 0x1p1023L;
    const wide odd[] = {NAN, INFINITY, -INFINITY, 0, -0.0L, tiny, -3 * tiny, huge, -huge,
                        100, -60, 800, -800, 1e-6L, -1e-6L, 1, -1};
    for (ptrdiff_t i = 0; i < x.size; i++)
        if (any_below(3))
            x.exact[i] = odd[any_below(sizeof odd / sizeof *odd)];
    round_array(x);
}

static void test_rows(const helix_table *table, int function, ptrdiff_t rows, ptrdiff_t size,
                      int single, int odd) {
    begin_case("%s of %td x %td, single %d, odd %d", names[function], rows, size, single, odd);
    int is_pull = ends_in(names[function], "_pull"), is_gate_pull = ends_in(names[function], "_gate_pull");
    int single_x = single & 1, single_y = single >> 1;
    ptrdiff_t x_size = single_x ? 1 : size, y_size = single_y ? 1 : size;
    ptrdiff_t gap = any_below(2) * 3, stride = size + gap, last = rows - 1;
    array x = random_array(last * (x_size + gap) + x_size, -3, 3);
    array y = random_array(last * (y_size + gap) + y_size, -3, 3);
    array g = random_array(is_gate_pull ? last * stride + size : 0, -1, 1);
    array out = new_array(last * stride + size);
    array out_y = new_array(is_gate_pull ? last * stride + size : 0);
    if (odd)
        set_odd(x), set_odd(y);
    helix_map m = {
        .rows = rows, .size = size, .function = function, .x = {x.data, 0, 0, x_size + gap},
        .y = {y.data, 0, 0, y_size + gap}, .single_x = single_x, .single_y = single_y,
        .out = {out.data, 0, 0, stride},
    };
    if (is_gate_pull)
        m.g = (helix_rows){g.data, 0, 0, stride}, m.out_y = (helix_rows){out_y.data, 0, 0, stride};
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t i = 0; i < size; i++) {
            wide other = 0, g_here = is_gate_pull ? g.exact[r * stride + i] : 0;
            out.exact[r * stride + i] = exact(function, x.exact[r * (x_size + gap) + (single_x ? 0 : i)],
                                              y.exact[r * (y_size + gap) + (single_y ? 0 : i)],
                                              g_here, &other);
            if (is_gate_pull)
                out_y.exact[r * stride + i] = other;
        }
    ptrdiff_t items = rows * ((size + HELIX_MAP_RUN - 1) / HELIX_MAP_RUN);
    CHECK(run(table->map, &m, items) == 0, "%td items", items);
    /* Slopes are sums of terms of about 1, here times up to 3. */
    CHECK_ELEMENTS(out, 4, is_pull ? 3 : 0);
    CHECK_ELEMENTS(out_y, 4, 3);
    free_arrays();
}

void TEST(test_map)(const helix_table *table);
void TEST(test_map)(const helix_table *table) {
    enum { RUN = HELIX_MAP_RUN };
    static const ptrdiff_t sizes[][2] = {{1, 1}, {3, 5}, {2, 16}, {5, 17}, {1, 63}, {7, 129}};
    for (int function = 0; function < FUNCTIONS; function++) {
        int takes_single = function >= HELIX_MAP_add && function <= HELIX_MAP_quotient;
        /* Others multiply what may be a denormal number, of few digits. */
        int is_plain = !ends_in(names[function], "_pull") && !ends_in(names[function], "_gate");
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int single = 0; single < (takes_single ? 4 : 1); single++)
                for (int odd = 0; odd <= is_plain; odd++)
                    test_rows(table, function, sizes[i][0], sizes[i][1], single, odd);
        if (function % THINNING == 0)
            test_rows(table, function, 2, RUN + 3, 0, 0);
    }
    const char *const *given = helix_function_names();
    for (int function = 0; function < FUNCTIONS; function++)
        CHECK(strcmp(given[function], names[function]) == 0, "%s is %s", names[function],
              given[function]);
}
