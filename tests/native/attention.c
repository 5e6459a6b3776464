/* Tests of attention. */
#include "check.h"

#include <math.h>

typedef struct {
    ptrdiff_t batch, heads, kv_heads, queries, keys, width, value_width, first_key, last_key;
} sizes;

/* Rows of one head after the other, or those of all heads in turn; returns how far they reach. */
static ptrdiff_t lay(helix_rows *rows, ptrdiff_t batch, ptrdiff_t heads, ptrdiff_t length,
                     ptrdiff_t width, int heads_in_turn) {
    ptrdiff_t row = width + any_below(2) * 3;
    rows->channel_stride = 1;
    rows->step_stride = heads_in_turn ? heads * row : row;
    rows->group_stride = heads_in_turn ? row : length * row;
    rows->batch_stride = heads * length * row;
    return (batch * heads * length - 1) * row + width;
}

static wide *at(array x, helix_rows rows, ptrdiff_t b, ptrdiff_t h, ptrdiff_t i) {
    return x.exact + b * rows.batch_stride + h * rows.group_stride + i * rows.step_stride;
}

/* Gives one row of an array that is written zeros to add to. */
static void begin_rows(array x, helix_rows rows, ptrdiff_t batch, ptrdiff_t heads,
                       ptrdiff_t length, ptrdiff_t width) {
    for (ptrdiff_t b = 0; b < batch; b++)
        for (ptrdiff_t h = 0; h < heads; h++)
            for (ptrdiff_t i = 0; i < length; i++)
                for (ptrdiff_t f = 0; f < width; f++)
                    at(x, rows, b, h, i)[f] = 0;
}

static wide dot(const wide *x, const wide *y, ptrdiff_t size) {
    wide sum = 0;
    for (ptrdiff_t f = 0; f < size; f++)
        sum += x[f] * y[f];
    return sum;
}

static void add_scaled(wide *to, wide factor, const wide *x, ptrdiff_t size) {
    for (ptrdiff_t f = 0; f < size; f++)
        to[f] += factor * x[f];
}

static void test_sizes(const helix_table *table, sizes s, int in_turn) {
    begin_case("%td x %td (%td) heads, %td queries of %td, %td keys of %td, seen %td to %td",
               s.batch, s.heads, s.kv_heads, s.queries, s.width, s.keys, s.value_width,
               s.first_key, s.last_key);
    helix_attention a = {
        .batch = s.batch, .heads = s.heads, .kv_heads = s.kv_heads, .queries = s.queries,
        .keys = s.keys, .width = s.width, .value_width = s.value_width,
        .first_key = s.first_key, .last_key = s.last_key, .scale = 0.5,
    };
    array q = random_array(lay(&a.q, s.batch, s.heads, s.queries, s.width, in_turn), -2, 2);
    array k = random_array(lay(&a.k, s.batch, s.kv_heads, s.keys, s.width, in_turn), -2, 2);
    array v = random_array(lay(&a.v, s.batch, s.kv_heads, s.keys, s.value_width, in_turn), -2, 2);
    array y = new_array(lay(&a.y, s.batch, s.heads, s.queries, s.value_width, in_turn));
    array g = random_array(lay(&a.g, s.batch, s.heads, s.queries, s.value_width, in_turn), -2, 2);
    array dq = new_array(lay(&a.dq, s.batch, s.heads, s.queries, s.width, in_turn));
    array dk = new_array(lay(&a.dk, s.batch, s.kv_heads, s.keys, s.width, in_turn));
    array dv = new_array(lay(&a.dv, s.batch, s.kv_heads, s.keys, s.value_width, in_turn));
    ptrdiff_t rows = s.batch * s.heads * s.queries;
    real *log_sums = guarded(rows * sizeof(real)), *means = guarded(rows * sizeof(real));
    begin_rows(y, a.y, s.batch, s.heads, s.queries, s.value_width);
    begin_rows(dq, a.dq, s.batch, s.heads, s.queries, s.width);
    begin_rows(dk, a.dk, s.batch, s.kv_heads, s.keys, s.width);
    begin_rows(dv, a.dv, s.batch, s.kv_heads, s.keys, s.value_width);
    wide *P = scratch(s.keys * sizeof(wide));
    for (ptrdiff_t row = 0; row < rows; row++) {
        ptrdiff_t b = row / s.queries / s.heads, h = row / s.queries % s.heads, i = row % s.queries;
        ptrdiff_t group = h / (s.heads / s.kv_heads);
        const wide *q_row = at(q, a.q, b, h, i), *g_row = at(g, a.g, b, h, i);
        wide sum = 0, *y_row = at(y, a.y, b, h, i);
        for (ptrdiff_t j = 0; j < s.keys; j++) {
            int seen = j >= i + s.first_key && j <= i + s.last_key;
            P[j] = seen ? expl(0.5L * dot(q_row, at(k, a.k, b, group, j), s.width)) : 0;
            sum += P[j];
        }
        for (ptrdiff_t j = 0; j < s.keys; j++) {
            P[j] = sum > 0 ? P[j] / sum : 0;
            add_scaled(y_row, P[j], at(v, a.v, b, group, j), s.value_width);
        }
        wide mean = dot(g_row, y_row, s.value_width);
        for (ptrdiff_t j = 0; j < s.keys; j++) {
            wide slope = P[j] * (dot(g_row, at(v, a.v, b, group, j), s.value_width) - mean);
            add_scaled(at(dv, a.dv, b, group, j), P[j], g_row, s.value_width);
            add_scaled(at(dk, a.dk, b, group, j), 0.5L * slope, q_row, s.width);
            add_scaled(at(dq, a.dq, b, h, i), 0.5L * slope, at(k, a.k, b, group, j), s.width);
        }
    }
    a.q.data = q.data, a.k.data = k.data, a.v.data = v.data, a.y.data = y.data;
    a.g.data = g.data, a.dq.data = dq.data, a.dk.data = dk.data, a.dv.data = dv.data;
    a.log_sums = log_sums, a.means = means;
    ptrdiff_t parts = (s.queries + HELIX_ATTENTION_ROWS - 1) / HELIX_ATTENTION_ROWS;
    ptrdiff_t key_parts = (s.keys + HELIX_ATTENTION_ROWS - 1) / HELIX_ATTENTION_ROWS;
    ptrdiff_t items = s.batch * s.heads * parts, key_items = s.batch * s.kv_heads * key_parts;
    CHECK(run(table->attention_forward, &a, items) == 0, "%td items", items);
    CHECK_ARRAY(y, 40, 2);
    CHECK(run(table->attention_queries, &a, items) == 0, "%td items", items);
    CHECK_ARRAY(dq, 100, 8);
    CHECK(run(table->attention_keys, &a, key_items) == 0, "%td items", key_items);
    CHECK_ARRAY(dk, 100, 8);
    CHECK_ARRAY(dv, 100, 8);
    free_arrays();
}

void TEST(test_attention)(const helix_table *table);
void TEST(test_attention)(const helix_table *table) {
    static const ptrdiff_t lengths[][2] = {{1, 1}, {7, 3}, {33, 50}, {100, 96}, {193, 201}};
    static const ptrdiff_t bands[][2] = {{-999, 999}, {-999, 0}, {-20, 5}, {30, 30}, {999, 999}};
    static const ptrdiff_t others[][5] = { /* batch, heads, of keys, width, of values */
        {1, 1, 1, 1, 1}, {1, 2, 2, 8, 6}, {2, 4, 2, 5, 13}, {1, 3, 1, 19, 3}};
    int count = 0;
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 5; j++)
            for (int o = 0; o < 4; o++) {
                sizes s = {others[o][0], others[o][1], others[o][2], lengths[i][0], lengths[i][1],
                           others[o][3], others[o][4], bands[j][0], bands[j][1]};
                if (count++ % THINNING == 0)
                    test_sizes(table, s, (i + j + o) % 2);
            }
}
