/* Tests of a step of Mamba and of products with stored matrices. */
#include "check.h"

#include <math.h>
#include <string.h>

/* A matrix of numbers between -1 and 1 as it is stored, and what they stand for. */
typedef struct {
    helix_matrix stored;
    wide *exact, *bias;
} matrix;

static matrix random_matrix(ptrdiff_t rows, ptrdiff_t columns, int storage, int biased) {
    ptrdiff_t size = rows * columns;
    matrix m = {{.rows = rows, .columns = columns, .storage = storage}, NULL, NULL};
    if (storage == HELIX_REAL) {
        array x = random_array(size, -1, 1);
        m.stored.data = x.data, m.exact = x.exact;
    } else {
        size_t bytes = storage == HELIX_INT8 ? 1 : 2;
        char *data = guarded(size * bytes);
        m.stored.data = data, m.exact = scratch(size * sizeof(wide));
        for (ptrdiff_t i = 0; i < size; i++) {
            float x = (float)any_between(-1, 1);
            int8_t whole = (int8_t)(any_below(255) - 127);
            uint32_t word;
            memcpy(&word, &x, sizeof word);
            word &= 0xffff0000;
            memcpy(&x, &word, sizeof x);
            uint16_t half = (uint16_t)(word >> 16);
            memcpy(data + i * bytes, bytes == 1 ? (void *)&whole : (void *)&half, bytes);
            m.exact[i] = bytes == 1 ? whole : (wide)x;
        }
    }
    if (storage == HELIX_INT8) {
        array scale = random_array(rows, 0.002, 0.008);
        m.stored.scale = scale.data;
        for (ptrdiff_t i = 0; i < size; i++)
            m.exact[i] *= scale.exact[i / columns];
    }
    if (biased) {
        array bias = random_array(rows, -1, 1);
        m.stored.bias = bias.data, m.bias = bias.exact;
    }
    return m;
}

static void multiply(const matrix *m, const wide *x, wide *y) {
    for (ptrdiff_t i = 0; i < m->stored.rows; i++) {
        y[i] = m->bias ? m->bias[i] : 0;
        for (ptrdiff_t j = 0; j < m->stored.columns; j++)
            y[i] += m->exact[i * m->stored.columns + j] * x[j];
    }
}

static ptrdiff_t runs(ptrdiff_t rows) { return (rows + HELIX_STORED_ROWS - 1) / HELIX_STORED_ROWS; }

static void test_linear(const helix_table *table, ptrdiff_t count, ptrdiff_t rows,
                        ptrdiff_t columns, int storage) {
    begin_case("%td vectors, %td x %td, storage %d", count, rows, columns, storage);
    matrix m = random_matrix(rows, columns, storage, count % 2);
    array x = random_array(count * columns, -1, 1), y = new_array(count * rows);
    for (ptrdiff_t i = 0; i < count; i++)
        multiply(&m, x.exact + i * columns, y.exact + i * rows);
    helix_stored_linear call = {m.stored, count, x.data, y.data};
    CHECK(run(table->stored_linear, &call, runs(rows)) == 0, "%td rows", rows);
    CHECK_ARRAY(y, 8, columns);
    free_arrays();
}

typedef struct {
    ptrdiff_t batch, width, channels, states, taps, rank;
} sizes;

static wide silu_of(wide x) { return x / (1 + expl(-x)); }

static void test_sizes(const helix_table *table, sizes s, int storage) {
    begin_case("%td of %td, %td channels of %td states, %td taps, rank %td, storage %d", s.batch,
               s.width, s.channels, s.states, s.taps, s.rank, storage);
    ptrdiff_t d = s.channels, n = s.states, before = s.taps - 1, chosen = s.rank + 2 * n;
    int biased = s.batch % 2;
    matrix in = random_matrix(2 * d, s.width, storage, biased);
    matrix select = random_matrix(chosen, d, storage, 0);
    matrix step = random_matrix(d, s.rank, storage, biased);
    matrix out = random_matrix(s.width, d, storage, biased);
    array x = random_array(s.batch * s.width, -1, 1);
    array past = random_array(s.batch * d * before, -1, 1);
    array state = random_array(s.batch * d * n, -1, 1);
    array weight = random_array(d * s.taps, -1, 1), bias = random_array(d, -1, 1);
    array A_log = random_array(d * n, -2, 2), D = random_array(d, -1, 1);
    array y = new_array(s.batch * s.width), next_past = new_array(s.batch * d * before);
    array next_state = new_array(s.batch * d * n);
    wide *inner = scratch(2 * d * sizeof(wide)), *selected = scratch(chosen * sizeof(wide));
    wide *mixed = scratch(d * sizeof(wide));
    for (ptrdiff_t i = 0; i < s.batch; i++) {
        multiply(&in, x.exact + i * s.width, inner);
        for (ptrdiff_t c = 0; c < d; c++) {
            const wide *old = past.exact + (i * d + c) * before, *w = weight.exact + c * s.taps;
            wide *new = next_past.exact + (i * d + c) * before;
            wide sum = (biased ? bias.exact[c] : 0) + w[before] * inner[c];
            for (ptrdiff_t j = 0; j < before; j++) {
                sum += w[j] * old[j];
                new[j] = j + 1 < before ? old[j + 1] : (wide)(real)inner[c];
            }
            inner[c] = silu_of(sum);
        }
        multiply(&select, inner, selected);
        multiply(&step, selected, mixed);
        for (ptrdiff_t c = 0; c < d; c++) {
            wide delta = log1pl(expl(mixed[c])), sum = D.exact[c] * inner[c];
            for (ptrdiff_t j = 0; j < n; j++) {
                wide *h = next_state.exact + (i * d + c) * n + j;
                *h = expl(-delta * expl(A_log.exact[c * n + j])) *
                         state.exact[(i * d + c) * n + j] +
                     delta * selected[s.rank + j] * inner[c];
                sum += selected[s.rank + n + j] * *h;
            }
            mixed[c] = sum * silu_of(inner[d + c]);
        }
        multiply(&out, mixed, y.exact + i * s.width);
    }
    helix_mamba_step m = {
        .batch = s.batch, .channels = d, .states = n, .taps = s.taps, .rank = s.rank,
        .in_proj = in.stored, .x_proj = select.stored, .dt_proj = step.stored,
        .out_proj = out.stored, .x = x.data, .past = past.data, .state = state.data,
        .conv_weight = weight.data, .conv_bias = biased ? bias.data : NULL,
        .A_log = A_log.data, .D = D.data, .y = y.data, .next_past = next_past.data,
        .next_state = next_state.data,
    };
    m.inner = guarded(s.batch * 2 * d * sizeof(real));
    m.selected = guarded(s.batch * chosen * sizeof(real));
    m.mixed = guarded(s.batch * d * sizeof(real));
    CHECK(run(table->mamba_step_enter, &m, runs(d)) == 0, "%td", d);
    CHECK(run(table->mamba_step_select, &m, runs(chosen)) == 0, "%td", chosen);
    CHECK(run(table->mamba_step_scan, &m, runs(d)) == 0, "%td", d);
    CHECK(run(table->mamba_step_leave, &m, runs(s.width)) == 0, "%td", s.width);
    CHECK_ARRAY(next_past, 8, s.width);
    CHECK_ARRAY(next_state, 100, s.width + d);
    CHECK_ARRAY(y, 200, s.width + d);
    free_arrays();
}

void TEST(test_mamba_step)(const helix_table *table);
void TEST(test_mamba_step)(const helix_table *table) {
    static const ptrdiff_t shapes[][3] = {
        {1, 1, 1}, {1, 16, 16}, {2, 17, 33}, {4, 5, 7}, {5, 40, 64}, {9, 3, 130}};
    static const sizes all[] = {
        {1, 1, 1, 1, 1, 1},   {1, 5, 3, 2, 2, 4},  {2, 16, 32, 16, 4, 1},
        {3, 17, 33, 5, 3, 9}, {5, 19, 31, 17, 4, 7},
    };
    for (int storage = HELIX_REAL; storage <= HELIX_INT8; storage++) {
        for (int i = 0; i < 6; i++)
            test_linear(table, shapes[i][0], shapes[i][1], shapes[i][2], storage);
        for (int i = 0; i < 5; i++)
            test_sizes(table, all[i], storage);
    }
}
