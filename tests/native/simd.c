/* Tests of the vectors' functions, compiled as the kernels are: against long double, in units of
   the last place, on numbers of all sizes; their limits; loads and stores beside a guarded page. */
#include "check.h"
#include "simd.h"

#include <math.h>

#if HELIX_DOUBLE
enum { LEAST_EXPONENT = -1074 };
#define NAME "double"
#else
enum { LEAST_EXPONENT = -149 };
#define NAME "float"
#endif

enum { POINTS = 20000 };

/* The distance between a number of this size and the next. */
static wide last_place(wide x) {
    int exponent;
    if (x == 0)
        return ldexpl(1, LEAST_EXPONENT);
    frexpl(x, &exponent);
    exponent -= MANTISSA_BITS + 1;
    return ldexpl(1, exponent < LEAST_EXPONENT ? LEAST_EXPONENT : exponent);
}

/* `least` is the least unit of errors: that of 1 where terms of about 1 cancel. */
static void check_value(wide found, wide wanted, wide x, wide ulps, wide least) {
    if (!isfinite((real)wanted)) {
        CHECK(isnan(wanted) ? isnan(found) : found == (real)wanted, "at %Lg: %Lg, not %Lg", x,
              found, wanted);
        return;
    }
    wide error = fabsl(found - wanted) / fmaxl(last_place((real)wanted), least);
    CHECK(error <= ulps, "at %.20Lg: %.20Lg, not %.20Lg: %.3Lg ulp off", x, found, wanted, error);
}

typedef vec function(vec x);
typedef wide exact_function(wide x);

static void check_lanes(function f, exact_function exact, const real *x, wide ulps,
                        wide least) {
    vec y = f(load(x));
    for (int i = 0; i < WIDTH; i++)
        check_value(y[i], exact(x[i]), x[i], ulps, least);
}

/* Numbers evenly between low and high, then of all sizes between them, then the ends. */
static void check_function(const char *name, function f, exact_function exact, wide low, wide high,
                           wide ulps, wide least) {
    begin_case("%s of " NAME ", %d lanes", name, WIDTH);
    real x[WIDTH];
    for (int n = 0; n < POINTS; n += WIDTH) {
        for (int i = 0; i < WIDTH; i++) {
            x[i] = (real)any_between(low, high);
            if (n >= POINTS / 2) {
                int exponent = LEAST_EXPONENT + (int)any_below(20 - LEAST_EXPONENT);
                wide size = ldexpl(any_between(0.5L, 1), exponent);
                x[i] = (real)(any_below(2) ? size : -size);
                if (x[i] < low || x[i] > high)
                    x[i] = (real)(any_below(2) ? low : high);
            }
        }
        check_lanes(f, exact, x, ulps, least);
    }
    const wide ends[] = {low, high, 0, -0.0L, ldexpl(1, LEAST_EXPONENT), NAN};
    for (size_t n = 0; n < sizeof ends / sizeof *ends; n++) {
        for (int i = 0; i < WIDTH; i++) /* among others, in each place */
            x[i] = (real)(any_below(WIDTH) ? any_between(low, high) : ends[n]);
        x[any_below(WIDTH)] = (real)ends[n];
        for (int i = 0; i < WIDTH; i++)
            if (x[i] < low || x[i] > high)
                x[i] = (real)low;
        check_lanes(f, exact, x, ulps, least);
    }
}

/* The functions, and what they should be. */
static wide exact_exp(wide x) { return expl(x); }
static wide exact_exp2(wide x) { return exp2l(x); }
static wide exact_log1p(wide x) { return log1pl(x); }
static wide exact_sigmoid(wide x) { return 1 / (1 + expl(-x)); }
static wide exact_other(wide x) { return 1 / (1 + expl(x)); }
static wide exact_softplus(wide x) { return (x > 0 ? x : 0) + log1pl(expl(-fabsl(x))); }
static wide exact_silu(wide x) { return x * exact_sigmoid(x); }
static wide exact_silu_slope(wide x) {
    return exact_sigmoid(x) * (1 + x * exact_other(x));
}

static vec only_sigmoid(vec x) {
    vec other;
    return sigmoid(x, &other);
}
static vec only_other(vec x) {
    vec other;
    sigmoid(x, &other);
    return other;
}
static vec only_softplus(vec x) {
    vec slope;
    return softplus(x, &slope);
}
static vec softplus_slope(vec x) {
    vec slope;
    softplus(x, &slope);
    return slope;
}
static vec only_silu(vec x) {
    vec slope;
    return silu(x, &slope);
}
static vec silu_slope(vec x) {
    vec slope;
    silu(x, &slope);
    return slope;
}
static wide exact_expm1(wide x) { return expm1l(x); }
static wide exact_log(wide x) { return logl(x); }
static wide exact_tanh(wide x) { return tanhl(x); }
static wide exact_erf(wide x) { return erfl(x); }
static wide exact_normal(wide x) { return erfcl(-x * sqrtl(0.5L)) / 2; }
static wide exact_gelu(wide x) { return x * exact_normal(x); }
static wide exact_gelu_slope(wide x) {
    return exact_normal(x) + x * expl(-x * x / 2) / sqrtl(8 * atanl(1));
}

static vec only_gelu(vec x) {
    vec slope;
    return gelu(x, &slope);
}
static vec gelu_slope(vec x) {
    vec slope;
    gelu(x, &slope);
    return slope;
}
static vec exp_of_any(vec x) { return exp_vec(x); }
static vec expm1_of_any(vec x) { return expm1_vec(x); }
static vec log_of_any(vec x) { return log_vec(x); }
static vec log1p_of_any(vec x) { return log1p_vec(x); }
static vec sigmoid_of_any(vec x) { return sigmoid_vec(x); }
static vec tanh_of_any(vec x) { return tanh_vec(x); }
static vec erf_of_any(vec x) { return erf_vec(x); }
static vec exp_of_negative(vec x) { return exp_negative(x); }
static vec exp2_of_any(vec x) { return exp2_vec(x); }
static vec exp2_of_halves(vec x) { return exp2_of_product(x * (real)2, splat((real)0.5)); }
static vec log1p_of_unit(vec x) { return log1p_unit(x); }

static void test_functions(void) {
    wide end = HELIX_DOUBLE ? 800 : 120, normal = EXP2_NORMAL;
    check_function("exp_negative", exp_of_negative, exact_exp, -end, 0, 2, 0);
    check_function("exp_negative", exp_of_negative, exact_exp, -1, 0, 2, 0);
    check_function("exp2_vec", exp2_of_any, exact_exp2, -2 * end, 2 * end, 2, 0);
    check_function("exp2_of_product", exp2_of_halves, exact_exp2, -normal, normal, 2, 0);
    check_function("log1p_unit", log1p_of_unit, exact_log1p, 0, 1, 2, 0);
    check_function("sigmoid", only_sigmoid, exact_sigmoid, -end, end, 3, 0);
    check_function("1 - sigmoid", only_other, exact_other, -end, end, 3, 0);
    check_function("softplus", only_softplus, exact_softplus, -end, end, 3, 0);
    check_function("slope of softplus", softplus_slope, exact_sigmoid, -end, end, 3, 0);
    /* Below, x times a denormal number, itself half a unit off. */
    wide safe = HELIX_DOUBLE ? 700 : 80;
    check_function("silu", only_silu, exact_silu, -safe, end, 4, 0);
    check_function("slope of silu", silu_slope, exact_silu_slope, -end, end, 3, EPS);
    wide huge = HELIX_DOUBLE ? 1e308L : 1e38L;
    check_function("exp_vec", exp_of_any, exact_exp, -end, end, 2, 0);
    check_function("expm1_vec", expm1_of_any, exact_expm1, -end, end, 2, 0);
    check_function("expm1_vec", expm1_of_any, exact_expm1, -1, 1, 2, 0);
    check_function("log_vec", log_of_any, exact_log, 0, huge, 2, 0);
    check_function("log_vec", log_of_any, exact_log, 0, 2, 2, 0);
    check_function("log1p_vec", log1p_of_any, exact_log1p, -1, huge, 2, 0);
    check_function("log1p_vec", log1p_of_any, exact_log1p, -1, 1, 2, 0);
    check_function("sigmoid_vec", sigmoid_of_any, exact_sigmoid, -end, end, 3, 0);
    check_function("tanh_vec", tanh_of_any, exact_tanh, -end, end, 2, 0);
    check_function("tanh_vec", tanh_of_any, exact_tanh, -1, 1, 2, 0);
    check_function("erf_vec", erf_of_any, exact_erf, -end, end, 2, 0);
    check_function("erf_vec", erf_of_any, exact_erf, -2, 2, 2, 0);
    wide flat = HELIX_DOUBLE ? 37 : 13; /* below, x times a denormal number */
    check_function("gelu", only_gelu, exact_gelu, -flat, end, 5, 0);
    check_function("slope of gelu", gelu_slope, exact_gelu_slope, -end, end, 3, EPS);
}

typedef struct {
    wide x, y;
} point;

static void check_points(const char *name, function f, const point *points, size_t count) {
    for (size_t n = 0; n < count; n++)
        for (int place = 0; place < WIDTH; place++) {
            begin_case("%s of " NAME " at %Lg, lane %d", name, points[n].x, place);
            vec x = splat((real)0.5);
            x[place] = (real)points[n].x;
            wide found = f(x)[place], wanted = points[n].y;
            CHECK(isnan(wanted) ? isnan(found)
                                : found == (real)wanted && !signbit(found) == !signbit(wanted),
                  "%Lg, not %Lg", found, wanted);
        }
}

#define CHECK_POINTS(f, ...)                                                                \
    do {                                                                                    \
        static const point points[] = {__VA_ARGS__};                                        \
        check_points(#f, f, points, sizeof points / sizeof *points);                        \
    } while (0)

static void test_limits(void) {
    wide huge = HELIX_DOUBLE ? 1e308L : 1e38L;
    CHECK_POINTS(exp_of_negative, {0, 1}, {-0.0L, 1}, {-INFINITY, 0}, {-1e9L, 0}, {NAN, NAN});
    CHECK_POINTS(exp2_of_any, {0, 1}, {INFINITY, INFINITY}, {-INFINITY, 0}, {-1e9L, 0},
                 {1e9L, INFINITY}, {NAN, NAN}, {10, 1024}, {-1, 0.5L});
    CHECK_POINTS(log1p_of_unit, {0, 0}, {NAN, NAN});
    CHECK_POINTS(only_sigmoid, {0, 0.5L}, {INFINITY, 1}, {-INFINITY, 0}, {-1e9L, 0}, {NAN, NAN});
    CHECK_POINTS(only_other, {0, 0.5L}, {INFINITY, 0}, {-INFINITY, 1}, {-1e9L, 1}, {NAN, NAN});
    CHECK_POINTS(only_softplus, {INFINITY, INFINITY}, {-INFINITY, 0}, {1e9L, 1e9L}, {NAN, NAN});
    CHECK_POINTS(softplus_slope, {INFINITY, 1}, {-INFINITY, 0}, {0, 0.5L}, {NAN, NAN});
    CHECK_POINTS(only_silu, {0, 0}, {-0.0L, -0.0L}, {INFINITY, INFINITY}, {NAN, NAN},
                 {-INFINITY, NAN}); /* as x * sigmoid(x) in NumPy */
    CHECK_POINTS(silu_slope, {0, 0.5L}, {NAN, NAN}, {1e9L, 1});
    CHECK_POINTS(exp_of_any, {0, 1}, {INFINITY, INFINITY}, {-INFINITY, 0}, {NAN, NAN});
    CHECK_POINTS(expm1_of_any, {0, 0}, {-0.0L, -0.0L}, {INFINITY, INFINITY}, {-INFINITY, -1},
                 {NAN, NAN});
    CHECK_POINTS(log_of_any, {0, -INFINITY}, {-0.0L, -INFINITY}, {-1, NAN}, {INFINITY, INFINITY},
                 {-INFINITY, NAN}, {1, 0}, {NAN, NAN});
    CHECK_POINTS(log1p_of_any, {0, 0}, {-0.0L, -0.0L}, {-1, -INFINITY}, {-2, NAN},
                 {INFINITY, INFINITY}, {-INFINITY, NAN}, {NAN, NAN});
    CHECK_POINTS(tanh_of_any, {0, 0}, {-0.0L, -0.0L}, {INFINITY, 1}, {-INFINITY, -1}, {NAN, NAN});
    CHECK_POINTS(erf_of_any, {0, 0}, {-0.0L, -0.0L}, {INFINITY, 1}, {-INFINITY, -1}, {NAN, NAN});
    CHECK_POINTS(sigmoid_of_any, {0, 0.5L}, {INFINITY, 1}, {-INFINITY, 0}, {NAN, NAN});
    CHECK_POINTS(only_gelu, {0, 0}, {-0.0L, -0.0L}, {INFINITY, INFINITY}, {NAN, NAN},
                 {-INFINITY, NAN}); /* as x * Phi(x) in NumPy */
    point at_huge[] = {{huge, huge}};
    check_points("silu", only_silu, at_huge, 1);
    check_points("softplus", only_softplus, at_huge, 1);
}

/* Loads and stores of the first few lanes, right before a page that may not be touched. */
static void test_memory(void) {
    for (int count = 0; count <= WIDTH + 1; count++) {
        begin_case("the first %d of %d lanes of " NAME, count, WIDTH);
        real *from = guarded((size_t)count * sizeof *from), *to = guarded((size_t)count * sizeof *to);
        for (int i = 0; i < count; i++)
            from[i] = (real)(i + 1);
        vec x = load_padded(from, count, -7), y = load_first(from, count);
        for (int i = 0; i < WIDTH; i++) {
            CHECK(x[i] == (i < count ? i + 1 : -7), "lane %d is %Lg", i, (wide)x[i]);
            CHECK(y[i] == (i < count ? i + 1 : 0), "lane %d is %Lg", i, (wide)y[i]);
        }
        store_first(to, x, count);
        for (int i = 0; i < count && i < WIDTH; i++)
            CHECK(to[i] == i + 1, "%Lg was stored in place %d", (wide)to[i], i);
        for (int i = WIDTH; i < count; i++)
            CHECK(isnan(to[i]), "%Lg was stored in place %d", (wide)to[i], i);
        free_guarded();
    }
}

static void test_lanes(void) {
    begin_case("lanes of " NAME);
    const wide odd[] = {NAN, INFINITY, -INFINITY, 0, -0.0L};
    for (int n = 0; n < 1000; n++) {
        vec x, y;
        for (int i = 0; i < WIDTH; i++) {
            x[i] = (real)(any_below(9) ? any_between(-1, 1) : odd[any_below(5)]);
            y[i] = (real)(any_below(9) ? any_between(-1, 1) : odd[any_below(5)]);
        }
        vec larger = maximum(x, y), size = absolute(x), low = at_least(x, 0), high = at_most(x, 0);
        wide sum = 0, sizes = 0, largest = -INFINITY;
        int all = 1, has_nan = 0;
        for (int i = 0; i < WIDTH; i++) {
            sum += x[i], sizes += fabsl((wide)x[i]);
            largest = x[i] > largest ? x[i] : largest;
            all &= x[i] <= (real)0.5;
            has_nan |= isnan(x[i]);
            CHECK(x[i] > y[i] ? larger[i] == x[i] : larger[i] == y[i] || isnan(larger[i]),
                  "maximum of %g and %g is %g", x[i], y[i], larger[i]);
            CHECK(isnan(x[i]) ? isnan(size[i]) : size[i] == fabsl((wide)x[i]) && !signbit(size[i]),
                  "absolute value of %g is %g", x[i], size[i]);
            CHECK(isnan(x[i]) ? isnan(low[i]) : low[i] == (x[i] < 0 ? 0 : x[i]), "%g", low[i]);
            CHECK(isnan(x[i]) ? isnan(high[i]) : high[i] == (x[i] > 0 ? 0 : x[i]), "%g", high[i]);
        }
        wide found = sum_lanes(x);
        CHECK(isfinite(sum) ? fabsl(found - sum) <= EPS * sizes : isnan(sum) ? isnan(found) : found == sum,
              "the sum is %Lg, not %Lg", found, sum);
        CHECK(has_nan || largest_lane(x) == largest, "the largest is %g", largest_lane(x));
        CHECK(all_lanes(x <= (real)0.5) == all, "all are %d", all);
    }
}

static void test_transposition(void) {
    begin_case("transposition of " NAME);
    vec square[WIDTH];
    for (int i = 0; i < WIDTH; i++)
        for (int j = 0; j < WIDTH; j++)
            square[i][j] = (real)(i * WIDTH + j);
    transpose(square);
    for (int i = 0; i < WIDTH; i++)
        for (int j = 0; j < WIDTH; j++)
            CHECK(square[i][j] == j * WIDTH + i, "entry %d, %d is %g", i, j, square[i][j]);
}

void EXPORT(test_simd)(void);
void EXPORT(test_simd)(void) {
    set_seed(5);
    test_functions();
    test_limits();
    test_memory();
    test_lanes();
    test_transposition();
}
