/* Tests of the long convolution. */
#include "check.h"

typedef struct {
    ptrdiff_t batch, channels, length, taps, size, rows_in_item;
} sizes;

/* Rows of time of (b, d, l), channel after channel or sequence after sequence; returns how far they
   reach. */
static ptrdiff_t lay(helix_rows *rows, const sizes *s, int channels_first) {
    ptrdiff_t row = s->length + any_below(2) * 3;
    rows->channel_stride = 1;
    rows->step_stride = channels_first ? s->batch * row : row;
    rows->batch_stride = channels_first ? row : s->channels * row;
    return (s->batch * s->channels - 1) * row + s->length;
}

static wide *at(array x, helix_rows rows, ptrdiff_t b, ptrdiff_t channel) {
    return x.exact + b * rows.batch_stride + channel * rows.step_stride;
}

static void begin_rows(array x, helix_rows rows, const sizes *s) {
    for (ptrdiff_t b = 0; b < s->batch; b++)
        for (ptrdiff_t c = 0; c < s->channels; c++)
            for (ptrdiff_t t = 0; t < s->length; t++)
                at(x, rows, b, c)[t] = 0;
}

static void test_sizes(const helix_table *table, sizes s, int options) {
    int has_bias = options & 1, has_gate = options & 2, shared = options & 4;
    begin_case("%td x %td, %td steps, %td taps, lines of %td, %td rows in an item, options %d",
               s.batch, s.channels, s.length, s.taps, s.size, s.rows_in_item, options);
    helix_fft_conv f = {
        .batch = s.batch, .channels = s.channels, .length = s.length, .taps = s.taps,
        .size = s.size, .rows_in_item = s.rows_in_item,
    };
    array u = random_array(lay(&f.u, &s, options & 1), -1, 1);
    array gate = random_array(lay(&f.gate, &s, 0), -1, 1);
    array g = random_array(lay(&f.g, &s, options & 2), -1, 1);
    array k = random_array(shared ? s.taps : s.channels * s.taps, -1, 1);
    array bias = random_array(s.channels, -1, 1);
    array y = new_array(lay(&f.y, &s, 0)), du = new_array(lay(&f.du, &s, options & 4));
    array dgate = new_array(lay(&f.dgate, &s, 0));
    ptrdiff_t parts = (s.batch + s.rows_in_item - 1) / s.rows_in_item;
    array dk = new_array(parts * s.channels * s.taps);
    begin_rows(y, f.y, &s);
    begin_rows(du, f.du, &s);
    begin_rows(dgate, f.dgate, &s);
    for (ptrdiff_t i = 0; i < dk.size; i++)
        dk.exact[i] = 0;
    f.k = (helix_rows){k.data, 0, 0, shared ? 0 : s.taps, 1};
    for (ptrdiff_t b = 0; b < s.batch; b++)
        for (ptrdiff_t c = 0; c < s.channels; c++) {
            const wide *taps = k.exact + (shared ? 0 : c * s.taps);
            const wide *u_row = at(u, f.u, b, c), *g_row = at(g, f.g, b, c);
            const wide *gates = at(gate, f.gate, b, c);
            wide *y_row = at(y, f.y, b, c), *du_row = at(du, f.du, b, c);
            wide *slopes = dk.exact + (b / s.rows_in_item * s.channels + c) * s.taps;
            for (ptrdiff_t t = 0; t < s.length; t++) {
                wide gp = g_row[t] * (has_gate ? gates[t] : 1), sum = 0;
                for (ptrdiff_t j = 0; j <= t && j < s.taps; j++) {
                    wide tap = taps[j] + (j == 0 && has_bias ? bias.exact[c] : 0);
                    sum += tap * u_row[t - j];
                    du_row[t - j] += tap * gp;
                    slopes[j] += gp * u_row[t - j];
                }
                y_row[t] = sum * (has_gate ? gates[t] : 1);
                at(dgate, f.dgate, b, c)[t] = g_row[t] * sum;
            }
        }
    ptrdiff_t room = s.size > HELIX_FFT_ROOM ? s.size : HELIX_FFT_ROOM;
    f.table = guarded((size_t)(2 * room + 4) * sizeof(real));
    f.u.data = u.data, f.y.data = y.data, f.gate.data = has_gate ? gate.data : NULL;
    f.bias = has_bias ? bias.data : NULL;
    ptrdiff_t items = parts * s.channels;
    CHECK(run(table->fft_conv_table, &f, 1) == 0, "constants of %td", s.size);
    CHECK(run(table->fft_conv_forward, &f, items) == 0, "%td items", items);
    CHECK_ARRAY(y, 12, 2);
    f.g.data = g.data, f.du.data = du.data, f.dgate.data = dgate.data, f.dk = dk.data;
    CHECK(run(table->fft_conv_backward, &f, items) == 0, "%td items", items);
    CHECK_ARRAY(du, 12, 2);
    CHECK_ARRAY(dgate, 12, 2);
    CHECK_ARRAY(dk, 12, 2);
    free_arrays();
}

void TEST(test_fft_conv)(const helix_table *table);
void TEST(test_fft_conv)(const helix_table *table) {
    static const sizes all[] = {
        {1, 1, 1, 1, 64, 1}, {2, 1, 5, 3, 64, 1}, {2, 2, 100, 90, 128, 2}, {3, 2, 256, 256, 256, 2},
        {1, 3, 100, 100, 512, 1}, {5, 1, 512, 7, 512, 2}, {2, 2, 700, 699, 1024, 2},
        {1, 1, 1024, 1024, 1024, 1}, {1, 2, 1025, 300, 2048, 1}, {2, 1, 2100, 2000, 4096, 2},
        {1, 1, 200, 200, 8192, 1}, {1, 1, 3000, 100, 16384, 1}, {1, 1, 500, 400, 65536, 1},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (int options = 0; options < 8; options++)
            if ((i + (size_t)options) % THINNING == 0)
                test_sizes(table, all[i], options);
}
