/* Tests of the optimizers' steps over many arrays, and of what bounds them. */
#include "check.h"

#include <math.h>
#include <string.h>

enum { MOST_LEAVES = 8 };

/* What a leaf's state is after one step, by the textbook. */
static void adamw_exactly(const helix_update *u, array p, array g, array m, array v) {
    for (ptrdiff_t i = 0; i < p.size; i++) {
        m.exact[i] = u->beta1 * m.exact[i] + (1 - (wide)u->beta1) * g.exact[i];
        v.exact[i] = u->beta2 * v.exact[i] + (1 - (wide)u->beta2) * g.exact[i] * g.exact[i];
        wide mean = u->correction1 * m.exact[i], square = u->correction2 * v.exact[i];
        p.exact[i] = (1 - u->lr * u->weight_decay) * p.exact[i] -
                     u->lr * mean / (sqrtl(square) + u->eps);
    }
}

static void sgd_exactly(const helix_update *u, array p, array g, array m) {
    for (ptrdiff_t i = 0; i < p.size; i++) {
        wide step = g.exact[i];
        if (u->weight_decay != 0)
            step += u->weight_decay * p.exact[i];
        if (m.size) {
            m.exact[i] = u->momentum * m.exact[i] + step;
            step = u->nesterov ? step + u->momentum * m.exact[i] : m.exact[i];
        }
        p.exact[i] -= u->lr * step;
    }
}

static void test_step(const helix_table *table, const ptrdiff_t *sizes, int count, int is_sgd,
                      int variant, int odd) {
    begin_case("%s, %d arrays, the first of %td, variant %d", is_sgd ? "sgd" : "adamw", count,
               sizes[0], variant);
    helix_leaf leaves[MOST_LEAVES];
    array p[MOST_LEAVES], g[MOST_LEAVES], m[MOST_LEAVES], v[MOST_LEAVES];
    helix_update u = {.count = count, .leaves = leaves, .lr = 0.01,
                      .weight_decay = variant & 1 ? 0.1 : 0, .beta1 = 0.9, .beta2 = 0.95,
                      .eps = 1e-8, .correction1 = 1 / (1 - 0.9 * 0.9),
                      .correction2 = 1 / (1 - 0.95 * 0.95), .momentum = 0.9,
                      .nesterov = variant >> 2};
    ptrdiff_t end = 0;
    for (int i = 0; i < count; i++) {
        ptrdiff_t state = is_sgd && !(variant & 2) ? 0 : sizes[i];
        p[i] = random_array(sizes[i], -1, 1), g[i] = random_array(sizes[i], -1, 1);
        m[i] = random_array(state, -1, 1), v[i] = random_array(is_sgd ? 0 : state, 0, 1);
        if (odd && sizes[i] > 7) {
            g[i].exact[0] = NAN, g[i].exact[1] = INFINITY, g[i].exact[7] = 0;
            p[i].exact[3] = -INFINITY, p[i].exact[4] = 1e-40L;
            round_array(g[i]), round_array(p[i]);
        }
        end += sizes[i];
        leaves[i] = (helix_leaf){end, p[i].data, g[i].data, state ? m[i].data : NULL,
                                 is_sgd ? NULL : v[i].data};
        if (is_sgd)
            sgd_exactly(&u, p[i], g[i], m[i]);
        else
            adamw_exactly(&u, p[i], g[i], m[i], v[i]);
    }
    ptrdiff_t items = (end + HELIX_UPDATE_RUN - 1) / HELIX_UPDATE_RUN;
    CHECK(run(is_sgd ? table->sgd : table->adamw, &u, items) == 0, "%td items", items);
    for (int i = 0; i < count; i++) {
        /* Rounded to the dtype, the betas are up to EPS / 2 off, and 1 - beta twice that. */
        CHECK_ARRAY(p[i], 4, 1);
        CHECK_ARRAY(g[i], 0, 0);
        CHECK_ARRAY(m[i], 4, 1);
        CHECK_ARRAY(v[i], 4, 1);
    }
    free_arrays();
}

static void test_bounds(const helix_table *table, const ptrdiff_t *sizes, int count) {
    begin_case("squares and scale, %d arrays, the first of %td", count, sizes[0]);
    helix_leaf leaves[MOST_LEAVES];
    array p[MOST_LEAVES], g[MOST_LEAVES];
    helix_update u = {.count = count, .leaves = leaves, .factor = 0.25};
    ptrdiff_t end = 0;
    wide exact = 0;
    for (int i = 0; i < count; i++) {
        p[i] = random_array(sizes[i], -1, 1), g[i] = random_array(sizes[i], -1, 1);
        for (ptrdiff_t j = 0; j < sizes[i]; j++) {
            exact += g[i].exact[j] * g[i].exact[j];
            p[i].exact[j] *= 0.25;
        }
        end += sizes[i];
        leaves[i] = (helix_leaf){.end = end, .param = p[i].data, .grad = g[i].data};
    }
    ptrdiff_t items = (end + HELIX_UPDATE_RUN - 1) / HELIX_UPDATE_RUN;
    u.squares = guarded(items * sizeof *u.squares);
    memset(u.squares, 0, items * sizeof *u.squares);
    CHECK(run(table->squares, &u, items) == 0, "squares of %td items", items);
    CHECK(run(table->scale, &u, items) == 0, "scaling of %td items", items);
    double sum = 0;
    for (ptrdiff_t i = 0; i < items; i++)
        sum += u.squares[i];
    CHECK(fabsl(sum - exact) <= 1e-13L * exact, "sum %g, not %Lg", sum, (long double)exact);
    digest_bytes(u.squares, items * sizeof *u.squares);
    for (int i = 0; i < count; i++) {
        CHECK_ARRAY(p[i], 0, 0);
        CHECK_ARRAY(g[i], 0, 0);
    }
    free_arrays();
}

void TEST(test_update)(const helix_table *table);
void TEST(test_update)(const helix_table *table) {
    enum { RUN = HELIX_UPDATE_RUN };
    static const ptrdiff_t sizes[][MOST_LEAVES] = {
        {1}, {7}, {16, 17}, {33, 1, 2, 0, 5, 31}, {0, 9}, {9, 0}, {RUN}, {RUN + 1, 3},
        {RUN - 5, 5, 11}, {RUN - 3, 7, 2 * RUN + 1, 40}, {1, 2, 3, 4, 5, 6, 7, 8},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int count = MOST_LEAVES;
        while (count > 1 && !sizes[i][count - 1] && !(i == 5 && count == 2))
            count--;
        test_bounds(table, sizes[i], count);
        int step = sizes[i][0] < RUN / 2 ? 1 : 3;
        for (int variant = 0; variant < 2; variant++)
            test_step(table, sizes[i], count, 0, variant, i % 3 == 2);
        for (int variant = (int)i % 2; variant < 8; variant += step * THINNING)
            test_step(table, sizes[i], count, 1, variant, i % 3 == 2);
    }
}
