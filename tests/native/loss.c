/* Tests of the cross entropy: rows of any length, ignored rows, smoothing, logits that are large,
   infinite or nan, and targets that are no class. */
#include "check.h"

#include <math.h>
#include <string.h>

enum values { USUAL, LARGE, MINUS_INFINITY, PLUS_INFINITY, SOME_NAN, TINY, VALUES };

static void set_logits(array x, ptrdiff_t rows, ptrdiff_t classes, ptrdiff_t stride, int values) {
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t c = 0; c < classes; c++) {
            wide *logit = &x.exact[r * stride + c];
            *logit = any_between(-5, 5);
            if (values == LARGE)
                *logit *= 1e4L;
            if (values == TINY)
                *logit *= 1e-41L;
            if (any_below(4) == 0 && values == MINUS_INFINITY)
                *logit = -INFINITY;
            if (any_below(9) == 0 && values == PLUS_INFINITY)
                *logit = INFINITY;
            if (any_below(9) == 0 && values == SOME_NAN)
                *logit = NAN;
        }
    round_array(x);
}

static void test_rows(const helix_table *table, ptrdiff_t rows, ptrdiff_t classes, int ignores,
                      double smoothing, int values) {
    begin_case("loss of %td x %td, ignores %d, smoothing %g, values %d", rows, classes, ignores,
               smoothing, values);
    ptrdiff_t stride = classes + any_below(2) * 3, size = rows ? (rows - 1) * stride + classes : 0;
    array x = new_array(size), dx = new_array(size), g = random_array(rows, -1, 1);
    array losses = new_array(rows), top = new_array(rows), sum = new_array(rows);
    int64_t *target = guarded((size_t)rows * sizeof *target);
    set_logits(x, rows, classes, stride, values);
    for (ptrdiff_t r = 0; r < rows; r++) {
        int is_ignored = ignores && any_below(3) == 0;
        target[r] = is_ignored ? (ignores > 1 ? -100 : 0) : any_below(classes);
        is_ignored = ignores && target[r] == (ignores > 1 ? -100 : 0);
        const wide *row = x.exact + r * stride;
        wide largest = -INFINITY, total = 0, mean = 0;
        for (ptrdiff_t c = 0; c < classes; c++)
            largest = row[c] > largest ? row[c] : largest;
        for (ptrdiff_t c = 0; c < classes; c++)
            total += expl(row[c] - largest), mean += (row[c] - largest) / classes;
        losses.exact[r] = 0, sum.exact[r] = 1;
        if (!is_ignored) {
            losses.exact[r] = logl(total) - (1 - (wide)smoothing) * (row[target[r]] - largest);
            if (smoothing != 0)
                losses.exact[r] -= smoothing * mean;
            top.exact[r] = largest, sum.exact[r] = total;
        }
        for (ptrdiff_t c = 0; c < classes; c++) {
            wide p = expl(row[c] - largest) / total - smoothing / (wide)classes;
            wide goal = c == target[r] ? 1 - (wide)smoothing : 0;
            dx.exact[r * stride + c] = is_ignored ? 0 : g.exact[r] * (p - goal);
        }
    }
    helix_loss l = {
        .rows = rows, .classes = classes, .logits = {x.data, 0, 0, stride}, .target = target,
        .ignores = ignores > 0, .ignore_index = ignores > 1 ? -100 : 0, .smoothing = smoothing,
        .losses = losses.data, .top = top.data, .sum = sum.data, .g = g.data,
        .dlogits = {dx.data, 0, 0, stride},
    };
    /* Half of the cases compute the gradient ahead. */
    array ahead = new_array(dx.size);
    int is_ahead = (rows + classes) % 2 == 0;
    l.dlogits.data = is_ahead ? ahead.data : NULL;
    CHECK(run(table->loss_forward, &l, rows) == 0, "%td rows forward", rows);
    l.dlogits.data = dx.data;
    CHECK(run(table->loss_backward, &l, rows) == 0, "%td rows backward", rows);
    if (is_ahead)
        CHECK(memcmp(ahead.data, dx.data, dx.size * sizeof(real)) == 0, "%td rows ahead", rows);
    wide units = 8 + (wide)classes / 8; /* sums of so many terms in vectors */
    CHECK_ARRAY(losses, units, 1);
    CHECK_ARRAY(top, 0, 0);
    CHECK_ARRAY(sum, units, 1);
    CHECK_ARRAY(dx, units, 1);
    free_arrays();
}

/* No row is read or written by a target that is no class. */
static void test_bad_targets(const helix_table *table) {
    static const int64_t bad[] = {-1, 5, INT64_MAX, INT64_MIN, -100, (int64_t)1 << 32};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        begin_case("loss of a target %lld of 5 classes", (long long)bad[i]);
        array x = random_array(15, -1, 1), dx = new_array(15), g = random_array(3, -1, 1);
        array losses = random_array(3, 1, 1), top = random_array(3, 1, 1);
        int64_t *target = guarded(3 * sizeof *target);
        target[0] = 0, target[1] = bad[i], target[2] = 4;
        helix_loss l = {
            .rows = 3, .classes = 5, .logits = {x.data, 0, 0, 5}, .target = target,
            .ignores = 1, .ignore_index = 3, .losses = losses.data, .top = top.data,
            .sum = top.data, .g = g.data, .dlogits = {dx.data, 0, 0, 5},
        };
        CHECK(run(table->loss_forward, &l, 3) == HELIX_BAD_TARGET, "%s", "forward");
        CHECK(run(table->loss_backward, &l, 3) == HELIX_BAD_TARGET, "%s", "backward");
        free_arrays();
    }
}

void TEST(test_loss)(const helix_table *table);
void TEST(test_loss)(const helix_table *table) {
    static const ptrdiff_t sizes[][2] = {{0, 3}, {1, 1}, {3, 2}, {5, 7}, {4, 16}, {3, 17},
                                         {2, 33}, {9, 64}, {2, 257}, {1, 1000}};
    static const double smoothings[] = {0, 0.1, 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int ignores = 0; ignores < 3; ignores++)
            for (int smoothing = 0; smoothing < 3; smoothing++)
                for (int values = (ignores + (int)i) % 2; values < VALUES; values += 1 + THINNING)
                    test_rows(table, sizes[i][0], sizes[i][1], ignores, smoothings[smoothing], values);
    test_bad_targets(table);
}
